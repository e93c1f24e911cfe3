"""Writes data/stations.csv: monthly means of four made-up alpine weather stations, 1990 to 2024.

The numbers are invented: a yearly wave, a lapse rate of 6.5 °C per kilometre, a slow warming and seeded noise.
"""

import csv
import math
import pathlib
import random

STATIONS = {"Valley floor": 560, "Forest edge": 1340, "Alp hut": 2050, "Ridge": 3110}


def main() -> None:
    random.seed(11)
    path = pathlib.Path(__file__).parent / "data" / "stations.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["station", "altitude_m", "year", "month", "temperature_c", "snow_cm"])
        for station, altitude in STATIONS.items():
            for year in range(1990, 2025):
                for month in range(1, 13):
                    wave = -math.cos(2 * math.pi * (month - 1.3) / 12)
                    warming = 0.045 * (year - 1990)
                    degrees = 13 - 6.5 * altitude / 1000 + 9 * wave + warming + random.gauss(0, 1.1)
                    snow = max(0.0, (3 - degrees) * (4 + altitude / 400) + random.gauss(0, 12))
                    writer.writerow([station, altitude, year, month, round(degrees, 1), round(snow)])


if __name__ == "__main__":
    main()
