// Asks our own status address, never the provider, and loads the page anew when something changed.
// Without this script the page refreshes itself every few seconds.
const status = document.getElementById("status");
const left = document.querySelector("[data-countdown]");
let seconds = left ? Number(left.dataset.countdown) : 0;

function show() {
  if (!left) return;
  const whole = Math.max(0, Math.floor(seconds));
  left.textContent = `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
  left.classList.toggle("soon", whole < 180 && whole >= 60);
  left.classList.toggle("last", whole < 60);
}

if (left) {
  show();
  setInterval(() => { seconds -= 1; show(); }, 1000);
}

async function look() {
  let pause = document.hidden ? 10000 : 2500;
  try {
    const answer = await fetch(status.dataset.statusUrl, { headers: { Accept: "application/json" } });
    if (!answer.ok || answer.redirected) {
      location.reload();
      return;
    }
    const found = await answer.json();
    if (found.status !== status.dataset.status) {
      location.reload();
      return;
    }
    seconds = found.seconds_left;
    const text = found.hint ? `${found.label}. ${found.hint}` : found.label;
    if (status.textContent !== text) status.textContent = text;
  } catch {
    pause = 10000; // our own server is away: the sign-in goes on without this page
  }
  setTimeout(look, pause);
}
if (status) setTimeout(look, 1500);
