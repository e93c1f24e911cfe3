"""Explore a table that changes with time: the bundled marmot colony, or a CSV file of your own."""

import pathlib

import altair as alt
import pandas as pd
import streamlit as st

BUNDLED = pathlib.Path(__file__).parent / "data" / "colony.csv"
LABELS = {
    "mass_kg": "Body mass (kg)",
    "body_temperature_c": "Body temperature (°C)",
    "hours_above_ground": "Hours above ground per day",
}

st.set_page_config(page_title="Colony explorer", page_icon="🏔️", layout="wide")


@st.cache_data
def read(source) -> pd.DataFrame:
    return pd.read_csv(source)


def choose_source() -> pd.DataFrame:
    uploaded = st.sidebar.file_uploader(
        "Your own CSV file", type="csv", help="One row per observation, with a header."
    )
    if uploaded is None:
        st.sidebar.caption(
            "Without a file, the bundled colony is shown: eight marmots, three years, made up."
        )
        return read(BUNDLED)
    try:
        table = read(uploaded)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        st.sidebar.error(f"This is not a CSV file: {error}")
        st.stop()
    st.sidebar.success(f"{uploaded.name}: {len(table)} rows, {len(table.columns)} columns")
    return table


def notes() -> None:
    """Notes live in the session alone: a second visitor starts with none, and they outlast a nap of the app."""
    st.session_state.setdefault("notes", [])
    st.subheader("Field notes")
    with st.form("note", clear_on_submit=True, border=False):
        text = st.text_input("Note", placeholder="What did you see?")
        if st.form_submit_button("Add note") and text:
            st.session_state.notes.append(text)
    for note in st.session_state.notes:
        st.markdown(f"- {note}")

    st.session_state.setdefault("sightings", 0)
    if st.button("Count a sighting", type="primary"):
        st.session_state.sightings += 1
    st.metric("Sightings in this session", st.session_state.sightings)


def colony(table: pd.DataFrame) -> None:
    table = table.assign(date=pd.to_datetime(table["date"]))
    measure = st.sidebar.selectbox("Measure", list(LABELS), format_func=LABELS.get)
    burrows = st.sidebar.multiselect(
        "Burrows", sorted(table["burrow"].unique()), default=sorted(table["burrow"].unique())
    )
    weeks = st.sidebar.slider("Smooth over weeks", 1, 12, 3)

    shown = table[table["burrow"].isin(burrows)].sort_values("date").copy()
    if shown.empty:
        st.info("Choose a burrow on the left.")
        return
    shown["smooth"] = shown.groupby("marmot")[measure].transform(
        lambda m: m.rolling(weeks, min_periods=1).mean()
    )

    heaviest = shown.loc[shown["mass_kg"].idxmax()]
    one, two, three = st.columns(3)
    one.metric("Marmots", shown["marmot"].nunique())
    two.metric("Observations", f"{len(shown):,}")
    three.metric(
        "Heaviest ever",
        f"{heaviest['mass_kg']:.1f} kg",
        f"{heaviest['marmot']}, {heaviest['date']:%b %Y}",
        delta_color="off",
        delta_arrow="off",
    )

    lines = (
        alt.Chart(shown)
        .mark_line(strokeWidth=1.8, opacity=0.85)
        .encode(
            x=alt.X("date:T", title=None),
            y=alt.Y("smooth:Q", title=LABELS[measure], scale=alt.Scale(zero=False)),
            color=alt.Color(
                "burrow:N", title="Burrow", scale=alt.Scale(range=["#c9703f", "#3c6c9c", "#2f6f5e"])
            ),
            detail="marmot:N",
            tooltip=["marmot", "burrow", "date", alt.Tooltip(measure, title=LABELS[measure])],
        )
        .properties(height=380)
        .interactive(bind_y=False)
    )
    st.altair_chart(lines, width="stretch")
    st.caption(f"Averaged over {weeks} week{'s' if weeks > 1 else ''}. Drag and scroll to move through time.")

    with st.expander("By marmot"):
        st.dataframe(shown.groupby(["burrow", "marmot"])[list(LABELS)].mean().round(2), width="stretch")


def anything(table: pd.DataFrame) -> None:
    numbers = list(table.select_dtypes("number").columns)
    if not numbers:
        st.warning("There is no column of numbers in this file.")
        st.dataframe(table, width="stretch")
        return
    x = st.sidebar.selectbox("Across", list(table.columns))
    y = st.sidebar.selectbox("Up", numbers, index=len(numbers) - 1)
    st.scatter_chart(table, x=x, y=y, height=380)
    st.dataframe(table, width="stretch")


st.title("Colony explorer")
table = choose_source()
if {"date", "marmot", "burrow", *LABELS} <= set(table.columns):
    colony(table)
else:
    anything(table)
st.divider()
notes()
