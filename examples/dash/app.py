"""Four alpine weather stations: linked charts with Dash. `server` is what gunicorn runs."""

import os
import pathlib

import pandas as pd
import plotly.graph_objects as go
from dash import Dash, Input, Output, dcc, html

TABLE = pd.read_csv(pathlib.Path(__file__).parent / "data" / "stations.csv")
STATIONS = list(TABLE["station"].unique())
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
COLOURS = dict(zip(STATIONS, ["#c9703f", "#c9a23a", "#2f6f5e", "#3c6c9c"], strict=True))
MEASURES = {"temperature_c": "Temperature (°C)", "snow_cm": "Snow depth (cm)"}
FIRST, LAST = int(TABLE["year"].min()), int(TABLE["year"].max())

app = Dash(__name__, title="Alpine stations", update_title=None)
server = app.server


@server.get("/healthz")
def healthz():
    return {"status": "ok"}


app.layout = html.Main(
    [
        html.H1("Alpine stations"),
        html.P("Thirty-five made-up years at four altitudes. Click a line to see that year, month by month."),
        html.Div(
            [
                html.Div(
                    [
                        html.Label("Measure", htmlFor="measure"),
                        dcc.Dropdown(MEASURES, "temperature_c", id="measure", clearable=False),
                    ]
                ),
                html.Div(
                    [
                        html.Label("Stations", htmlFor="stations"),
                        dcc.Dropdown(STATIONS, STATIONS, id="stations", multi=True),
                    ]
                ),
            ],
            className="controls",
        ),
        html.Label("Years"),
        dcc.RangeSlider(
            FIRST,
            LAST,
            1,
            value=[FIRST, LAST],
            id="years",
            marks={y: str(y) for y in range(FIRST, LAST + 1, 5)},
        ),
        dcc.Graph(id="by-year", config={"displayModeBar": False}),
        dcc.Graph(id="by-month", config={"displayModeBar": False}),
    ]
)


@app.callback(
    Output("by-year", "figure"),
    Input("measure", "value"),
    Input("stations", "value"),
    Input("years", "value"),
)
def by_year(measure: str, stations: list[str], years: list[int]) -> go.Figure:
    shown = TABLE[TABLE["station"].isin(stations or []) & TABLE["year"].between(*years)]
    means = shown.groupby(["station", "year"])[measure].mean().reset_index()
    figure = go.Figure()
    for station in stations or []:
        part = means[means["station"] == station]
        figure.add_scatter(
            x=part["year"], y=part[measure], name=station, mode="lines+markers", line_color=COLOURS[station]
        )
    return tidy(figure, "Mean of each year", MEASURES[measure])


@app.callback(
    Output("by-month", "figure"),
    Input("measure", "value"),
    Input("stations", "value"),
    Input("by-year", "clickData"),
)
def by_month(measure: str, stations: list[str], clicked: dict | None) -> go.Figure:
    year = int(clicked["points"][0]["x"]) if clicked else LAST
    figure = go.Figure()
    for station in stations or []:
        part = TABLE[(TABLE["station"] == station) & (TABLE["year"] == year)]
        figure.add_bar(x=MONTHS, y=part[measure], name=station, marker_color=COLOURS[station])
    return tidy(figure, f"Months of {year}", MEASURES[measure])


def tidy(figure: go.Figure, title: str, unit: str) -> go.Figure:
    return figure.update_layout(
        title=title, yaxis_title=unit, height=340, margin={"l": 60, "r": 20, "t": 50, "b": 40},
        template="plotly_white", paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": 1.12, "x": 1, "xanchor": "right"}, font_family="system-ui, sans-serif",
    )  # fmt: skip


if __name__ == "__main__":
    app.run(host="0.0.0.0", port=int(os.environ.get("PORT", "8050")))
