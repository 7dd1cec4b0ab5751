// Runs before the first paint, so that a chosen theme never flashes the other one. It is a file of
// its own because the content security policy allows no inline script.
try {
  const chosen = localStorage.getItem('lodge.theme');
  if (chosen === 'dark' || chosen === 'light') document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be switched off; the system's colour scheme then decides.
}
