// As much of a browser's page as the script of the report asks for; whoever sets markup from text is caught.
"use strict";
class Element {
  constructor(tag) { this.tag = tag; this.children = []; this.attributes = {}; this.dataset = {}; this.listeners = {};
    this.hidden = false; this.value = ""; this.text = ""; }
  set innerHTML(_) { throw new Error("markup is made from text"); }
  set textContent(text) { this.children = []; this.text = String(text); }
  get textContent() { return this.text + this.children.map(child => child.textContent).join(""); }
  appendChild(child) { this.children.push(...(child.tag === "#fragment" ? child.children : [child])); return child; }
  replaceChildren(...children) { this.children = children; this.text = ""; }
  setAttribute(name, value) { this.attributes[name] = value; }
  removeAttribute(name) { delete this.attributes[name]; }
  hasAttribute(name) { return name in this.attributes; }
  addEventListener(kind, call) { this.listeners[kind] = call; }
  fire(kind) { this.listeners[kind](); }
  all() { return this.children.flatMap(child => [child, ...child.all()]); }
  querySelectorAll(path) {
    return path.split(" ").reduce((from, tag) => from.flatMap(one => one.all().filter(below => below.tag === tag)), [this]);
  }
  querySelector(path) { return this.querySelectorAll(path)[0]; }
}
function fakePage(kinds, sorted, data) {
  const named = {};
  const made = (tag, id, ...children) => {
    const one = new Element(tag);
    children.forEach(child => one.appendChild(child));
    if (id) named[id] = one;
    return one;
  };
  const heads = kinds.map((kind, place) => {
    const head = made("th"); head.textContent = `column ${place}`; head.dataset.kind = kind;
    if (place === sorted) head.setAttribute("aria-sort", "ascending");
    return head;
  });
  made("table", "genes-table", made("thead", null, made("tr", null, ...heads)), made("tbody"));
  made("p", "search", made("input")).hidden = true;
  made("span", "told");
  made("button", "more").hidden = true;
  made("script", "genes-data").textContent = JSON.stringify(data);
  return {getElementById: id => named[id], createElement: tag => new Element(tag),
    createDocumentFragment: () => new Element("#fragment"), named};
}
module.exports = {fakePage};
