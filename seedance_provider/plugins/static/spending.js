import { followTheme, parameters, redirected } from "./airflow.js";
import { el, render, renderError } from "./parts.js";

followTheme();
if (!redirected()) {
  try {
    render(el("h1", {}, "spending"), el("pre", {}, JSON.stringify(parameters())));
  } catch (error) {
    renderError(error);
  }
}
