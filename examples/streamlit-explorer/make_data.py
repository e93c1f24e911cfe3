"""Writes data/colony.csv: a made-up marmot colony, weighed every week for three years.

The numbers are invented (a seeded random walk around a plausible yearly rhythm), so that the example can be
given away freely. Run it again only to change the data.
"""

import csv
import datetime as dt
import math
import pathlib
import random

BURROWS = {
    "Upper scree": ["Alma", "Bruno", "Cleo"],
    "Larch meadow": ["Dario", "Elin", "Fiete"],
    "Old moraine": ["Gaia", "Hugo"],
}


def main() -> None:
    random.seed(7)
    rows = []
    for burrow, names in BURROWS.items():
        for name in names:
            lean = random.uniform(3.0, 3.8)
            for week in range(3 * 52):
                day = dt.date(2021, 4, 5) + dt.timedelta(weeks=week)
                # Fat is gained from May to September and burnt under ground from October to April.
                season = (day.timetuple().tm_yday - 110) / 365 % 1
                gain = math.sin(math.pi * season / 0.44) if season < 0.44 else 0
                fat = (
                    gain**2 if season < 0.22 else max(0.0, 1 - (season - 0.42) / 0.58) if season > 0.42 else 1
                )
                asleep = season > 0.47
                rows.append(
                    {
                        "date": day.isoformat(),
                        "marmot": name,
                        "burrow": burrow,
                        "mass_kg": round(lean + 2.1 * fat + random.gauss(0, 0.08), 2),
                        "body_temperature_c": round(
                            random.gauss(7.5, 1.2) if asleep else random.gauss(37.6, 0.5), 1
                        ),
                        "hours_above_ground": 0.0 if asleep else round(max(0.2, random.gauss(5.5, 1.3)), 1),
                    }
                )
    path = pathlib.Path(__file__).parent / "data" / "colony.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
