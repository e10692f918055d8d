// Applies the chosen theme before the page is drawn. Without a choice, the system's applies.
const chosenTheme = window.localStorage.getItem("theme");
if (chosenTheme === "dark" || chosenTheme === "light") document.documentElement.dataset.theme = chosenTheme;
