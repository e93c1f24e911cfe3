const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const FRAME = { left: 40, right: 750, top: 15, bottom: 305 };
const radians = (degrees) => (degrees * Math.PI) / 180;

/** Hours between sunrise and sunset: the sun's upper edge and refraction included, as almanacs do. */
export function daylight(latitude, dayOfYear) {
  const declination = radians(23.44) * Math.sin((2 * Math.PI * (dayOfYear - 80.8)) / 365.25);
  const horizon = Math.sin(radians(-0.833));
  // At a pole the cosine is zero and the quotient has no value: stay a hair away from it.
  const place = radians(Math.max(-89.99, Math.min(89.99, latitude)));
  const cosine = (horizon - Math.sin(place) * Math.sin(declination)) / (Math.cos(place) * Math.cos(declination));
  return (24 / Math.PI) * Math.acos(Math.max(-1, Math.min(1, cosine)));
}

function dayOfYear(date) {
  return Math.floor((Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) - Date.UTC(date.getFullYear(), 0, 0)) / 86_400_000);
}

const x = (day) => FRAME.left + ((day - 1) / 364) * (FRAME.right - FRAME.left);
const y = (hours) => FRAME.bottom - (hours / 24) * (FRAME.bottom - FRAME.top);

function draw(latitude) {
  const days = Array.from({ length: 365 }, (_, index) => index + 1);
  const line = days.map((day) => `${x(day).toFixed(1)},${y(daylight(latitude, day)).toFixed(1)}`).join(" ");
  const today = Math.min(365, dayOfYear(new Date()));
  const rows = [0, 6, 12, 18, 24].map(
    (hours) => `<line class="grid" x1="${FRAME.left}" x2="${FRAME.right}" y1="${y(hours)}" y2="${y(hours)}"/>
      <text x="${FRAME.left - 8}" y="${y(hours) + 4}" text-anchor="end">${hours} h</text>`,
  );
  const columns = MONTHS.map((month, index) => `<text x="${x(index * 30.42 + 15)}" y="330" text-anchor="middle">${month}</text>`);
  document.getElementById("chart").innerHTML = `${rows.join("")}${columns.join("")}
    <polygon class="day" points="${x(1)},${y(0)} ${line} ${x(365)},${y(0)}"/>
    <line class="now" x1="${x(today)}" x2="${x(today)}" y1="${FRAME.top}" y2="${FRAME.bottom}"/>`;

  const minutes = Math.round(daylight(latitude, today) * 60);
  document.getElementById("today").textContent =
    `Today the sun is up for ${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min there.`;
  const side = latitude > 0 ? "N" : latitude < 0 ? "S" : "";
  document.getElementById("latitude-text").textContent = `${Math.abs(latitude).toFixed(1)}° ${side}`;
}

const slider = document.getElementById("latitude");
slider.addEventListener("input", () => draw(Number(slider.value)));
for (const button of document.querySelectorAll("[data-latitude]")) {
  button.addEventListener("click", () => {
    slider.value = button.dataset.latitude;
    draw(Number(slider.value));
  });
}
draw(Number(slider.value));
