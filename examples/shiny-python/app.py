"""How a hibernating marmot saves energy: a small model with sliders, in Shiny for Python."""

import matplotlib.pyplot as plt
import numpy as np
from shiny import App, reactive, render, ui

GREEN, SAND, INK = "#2f6f5e", "#c9a36a", "#25302c"
SPECIFIC_KJ_PER_KG_FAT = 39_000

COLOURS = f"""
:root {{ --bs-primary: {GREEN}; --bs-link-color: {GREEN}; }}
body {{ background: #fdfcfa; color: {INK}; }}
.irs--shiny .irs-bar, .irs--shiny .irs-handle, .irs--shiny .irs-single {{ background: {GREEN}; border-color: {GREEN}; }}
.form-check-input:checked {{ background-color: {GREEN}; border-color: {GREEN}; }}
"""

app_ui = ui.page_sidebar(
    ui.sidebar(
        ui.input_slider("mass", "Body mass in autumn (kg)", 3.0, 7.0, 5.5, step=0.1),
        ui.input_slider("burrow", "Temperature of the burrow (°C)", 0, 12, 5),
        ui.input_slider("bout", "Days asleep between arousals", 3, 21, 13),
        ui.input_slider("winter", "Length of the winter (days)", 120, 240, 190),
        ui.input_switch("awake", "Compare with staying awake", True),
        width=320,
        bg="#f1eee8",
    ),
    ui.layout_columns(
        ui.value_box(
            "Arousals", ui.output_text("arousals"), theme=ui.value_box_theme(bg="#eef4f1", fg=GREEN)
        ),
        ui.value_box(
            "Fat burnt", ui.output_text("fat"), theme=ui.value_box_theme(bg="#f7f1e7", fg="#7a5a24")
        ),
        ui.value_box(
            "Mass in spring", ui.output_text("spring"), theme=ui.value_box_theme(bg="#eef4f1", fg=GREEN)
        ),
        fill=False,
    ),
    ui.layout_columns(
        ui.card(
            ui.card_header("Body temperature through the winter"),
            ui.output_plot("temperature", height="260px"),
        ),
        ui.card(ui.card_header("Energy spent"), ui.output_plot("energy", height="260px")),
        col_widths=12,
        fill=False,
        class_="mt-3",
    ),
    ui.p("A teaching model with rounded constants; not for citing.", class_="text-muted small"),
    ui.tags.style(COLOURS),
    title="Winter budget of a marmot",
    fillable=False,
)


def power_watts(mass: float, temperature: np.ndarray, burrow: float) -> np.ndarray:
    """Metabolic rate at a body temperature: Kleiber's law at 37 °C, and a factor of 2.5 for each 10 °C below."""
    basal = 3.4 * mass**0.75
    heat_loss = 0.12 * mass**0.5 * np.clip(temperature - burrow, 0, None)
    return basal * 2.5 ** ((temperature - 37) / 10) + np.where(temperature > 30, heat_loss, 0)


def server(input, output, session):
    @reactive.calc
    def winter():
        hours = np.arange(input.winter() * 24)
        in_cycle = hours % (input.bout() * 24 + 24)
        asleep_at = input.burrow() + 1.5
        # One day of each cycle is spent awake; cooling down takes about a day and a half.
        cooling = asleep_at + (37 - asleep_at) * np.exp(-(in_cycle - 24) / 14)
        temperature = np.where(in_cycle < 24, 37.0, cooling)
        watts = power_watts(input.mass(), temperature, input.burrow())
        return hours / 24, temperature, np.cumsum(watts) * 3.6

    @reactive.calc
    def awake_kj():
        days, _, _ = winter()
        always = np.full_like(days, 37.0)
        return np.cumsum(power_watts(input.mass(), always, input.burrow())) * 3.6

    @reactive.calc
    def burnt_kg():
        return winter()[2][-1] / SPECIFIC_KJ_PER_KG_FAT

    @render.text
    def arousals():
        return str(int(input.winter() // (input.bout() + 1)))

    @render.text
    def fat():
        return f"{burnt_kg():.2f} kg"

    @render.text
    def spring():
        left = input.mass() - burnt_kg()
        return f"{left:.1f} kg" if left > input.mass() * 0.55 else f"{left:.1f} kg: too lean"

    @render.plot(alt="Body temperature against days")
    def temperature():
        days, degrees, _ = winter()
        figure, axes = tidy_axes()
        axes.plot(days, degrees, color=GREEN, linewidth=1.4)
        axes.fill_between(days, degrees, input.burrow(), color=GREEN, alpha=0.08)
        axes.axhline(input.burrow(), color=SAND, linestyle="--", linewidth=1)
        axes.set(xlabel="Day of winter", ylabel="°C", ylim=(0, 40), xlim=(0, input.winter()))
        return figure

    @render.plot(alt="Energy spent against days")
    def energy():
        days, _, spent = winter()
        figure, axes = tidy_axes()
        axes.plot(days, spent / 1000, color=GREEN, linewidth=2, label="hibernating")
        if input.awake():
            axes.plot(days, awake_kj() / 1000, color=SAND, linewidth=2, label="awake all winter")
        axes.set(xlabel="Day of winter", ylabel="MJ", xlim=(0, input.winter()))
        axes.legend(frameon=False, loc="upper left")
        return figure


def tidy_axes():
    figure, axes = plt.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)
    axes.grid(axis="y", alpha=0.25)
    return figure, axes


app = App(app_ui, server)
