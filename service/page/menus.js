// Options of a select, in groups.

export const option = (label, value) => ({ label, value });

/** Fills a menu with [title, options] groups; what was chosen stays chosen while it is there, else `fallback` is. */
export function fill(id, groups, fallback) {
  const menu = document.getElementById(id);
  const values = groups.flatMap(([, options]) => options.map(({ value }) => value));
  const wanted = menu.options.length && values.includes(menu.value) ? menu.value : fallback;
  menu.replaceChildren(...groups.filter(([, options]) => options.length).flatMap(([title, options]) => grouped(title, options)));
  if (!values.length) menu.append(new Option("none yet", ""));
  if (values.includes(wanted)) menu.value = wanted;
}

function grouped(title, options) {
  const elements = options.map(({ label, value }) => new Option(label, value));
  if (!title) return elements;
  const group = document.createElement("optgroup");
  group.label = title;
  group.append(...elements);
  return [group];
}
