"use strict";
{
  const get = (id) => document.getElementById(id);
  const SITE = /^([A-Z]{1,2}\d{2})_s(\d{1,2})_w([1-6])\.png$/i;
  // The colours of RxRx1's stains, w1 to w6, as the napari plugin shows them.
  const COLOURS = [[0, 0, 255], [0, 255, 0], [255, 0, 0], [0, 255, 255], [255, 0, 255], [255, 255, 0]];
  const LARGEST = 512;
  const TIFF = /\.tiff?$/i;
  let token = "";
  let model = null;
  let chosen = [];
  let asked = 0;

  const make = (tag, text = "", name = "") => {
    const element = document.createElement(tag);
    element.textContent = text;
    if (name) element.className = name;
    return element;
  };

  const ask = async (path, options = {}) => {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    let answer;
    try {
      answer = await fetch(path, { ...options, headers, credentials: "omit" });
    } catch {
      throw { error: "unreachable", detail: "The server does not answer; check that it is running." };
    }
    const body = await answer.json().catch(() => null);
    if (!answer.ok || body === null) {
      throw body ?? { error: "unknown", detail: `The server answered with status ${answer.status}.` };
    }
    return body;
  };

  const tell = (failure) => {
    get("status").textContent = "";
    get("problem").textContent = failure.detail;
    get("problem").hidden = false;
    if (failure.error === "token") {
      get("token-form").hidden = false;
      get("token").focus();
    }
    if (failure.error === "channel_mismatch" && model) offerChannels();
  };

  const loadModel = async () => {
    model = await ask("/api/model");
    const { spec } = model;
    get("title").textContent = spec.title || spec.name;
    document.title = spec.title || spec.name;
    const channels = spec.input.preprocessing.channels;
    const names = channels.map((one) => (one.required ? one.name : `${one.name} (optional)`));
    const classes = spec.classes.map((one) => one.display_name || one.name);
    get("about").textContent = `Classes: ${classes.join(", ")}. Channels: ${names.join(", ")}.`;
    get("model").textContent =
      `${model.name} ${model.sha256.slice(0, 12)} on ${model.device}, napari-cellclf ${model.version}`;
  };

  // Files of one site are one picture, as the server takes them.
  const groups = (files) => {
    const found = new Map();
    for (const file of files) {
      const match = SITE.exec(file.name);
      const key = match ? `${match[1].toUpperCase()} ${Number(match[2])}` : file;
      if (!found.has(key)) found.set(key, []);
      found.get(key).push({ file, channel: match ? Number(match[3]) : 0 });
    }
    const sorted = [...found.values()];
    for (const group of sorted) group.sort((a, b) => a.channel - b.channel);
    return sorted;
  };

  // Stretch between nearly the darkest and nearly the brightest pixel.
  const stretched = (pixels) => {
    const grey = new Float32Array(pixels.length / 4);
    const counts = new Uint32Array(256);
    for (let i = 0; i < grey.length; i += 1) {
      grey[i] = (pixels[4 * i] + pixels[4 * i + 1] + pixels[4 * i + 2]) / 3;
      counts[Math.round(grey[i])] += 1;
    }
    let low = 0;
    for (let left = grey.length * 0.01; low < 254; low += 1) {
      left -= counts[low];
      if (left < 0) break;
    }
    let high = 255;
    for (let left = grey.length * 0.002; high > low + 1; high -= 1) {
      left -= counts[high];
      if (left < 0) break;
    }
    return grey.map((value) => Math.min(1, Math.max(0, (value - low) / Math.max(1, high - low))));
  };

  const draw = async (group) => {
    const bitmaps = await Promise.all(group.map(({ file }) => createImageBitmap(file)));
    const scale = Math.min(1, LARGEST / Math.max(bitmaps[0].width, bitmaps[0].height));
    const width = Math.max(1, Math.round(bitmaps[0].width * scale));
    const height = Math.max(1, Math.round(bitmaps[0].height * scale));
    const canvas = make("canvas");
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmaps[0], 0, 0, width, height);
    if (!group[0].channel) return canvas;
    // Each of red, green and blue is in half of the six colours; their sum shall not be white.
    const share = Math.min(1, 2 / group.length + 0.2);
    const sum = context.createImageData(width, height);
    for (const [index, { channel }] of group.entries()) {
      context.clearRect(0, 0, width, height);
      context.drawImage(bitmaps[index], 0, 0, width, height);
      const grey = stretched(context.getImageData(0, 0, width, height).data);
      const colour = group.length > 1 ? COLOURS[channel - 1] : [255, 255, 255];
      for (let i = 0; i < grey.length; i += 1) {
        for (let c = 0; c < 3; c += 1) sum.data[4 * i + c] += share * grey[i] * colour[c];
        sum.data[4 * i + 3] = 255;
      }
    }
    context.putImageData(sum, 0, 0);
    return canvas;
  };

  const picture = async (group) => {
    const place = make("div", "", "picture");
    const name = group[0].file.name;
    if (TIFF.test(name) || group[0].file.type === "image/tiff") {
      place.append(make("p", "A browser cannot show TIFF images.", "note"));
      return place;
    }
    try {
      const canvas = await draw(group);
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `The image ${name}`);
      place.append(canvas);
    } catch {
      place.append(make("p", "This browser cannot show the image.", "note"));
      return place;
    }
    if (group.length > 1) {
      const legend = make("ul", "", "legend");
      for (const { channel } of group) {
        const entry = make("li");
        const dot = make("i");
        dot.style.background = `rgb(${COLOURS[channel - 1].join(" ")})`;
        entry.append(dot, `w${channel}`);
        legend.append(entry);
      }
      place.append(legend);
    }
    return place;
  };

  const titleOf = (name) => {
    const spec = model?.spec.classes.find((one) => one.name === name);
    return spec?.display_name || name;
  };

  const bars = (prediction) => {
    const table = make("table", "", "bars");
    const sorted = Object.entries(prediction.probabilities).sort((a, b) => b[1] - a[1]);
    for (const [name, value] of sorted) {
      const row = make("tr", "", name === prediction.label ? "best" : "");
      const heading = make("th", titleOf(name));
      heading.scope = "row";
      const bar = make("div", "", "bar");
      bar.style.width = `${100 * value}%`;
      const middle = make("td");
      middle.append(bar);
      row.append(heading, middle, make("td", `${(100 * value).toFixed(1)} %`));
      table.append(row);
    }
    return table;
  };

  const unlikeText = ({ unlike_score: score }) => {
    const value = score === undefined ? "" : ` (score ${score.toFixed(2)}; 1 is the limit)`;
    return `Unlike anything in training${value}: do not rely on the class.`;
  };

  const card = async (prediction, pictures) => {
    const entry = make("li", "", "answer");
    const file = prediction.image.replace(/\[[a-z=0-9,]+\]$/, "");
    const shown = pictures.get(file) ?? pictures.values().next().value;
    entry.append((await shown).cloneNode(true));
    const canvas = (await shown).querySelector("canvas");
    // A copy of a canvas is empty.
    if (canvas) entry.querySelector("canvas").getContext("2d").drawImage(canvas, 0, 0);
    const said = make("div");
    if (prediction.error) {
      said.append(make("h2", "No prediction"), make("p", prediction.image, "name"));
      said.append(make("p", prediction.detail));
    } else {
      const marks = ["unsure", "unlike"].filter((mark) => prediction[mark]);
      const marked = marks.length ? ` (${marks.join(", ")})` : "";
      said.append(make("h2", `${titleOf(prediction.label)}${marked}`));
      said.append(make("p", prediction.image, "name"));
      if (prediction.unlike) said.append(make("p", unlikeText(prediction), "warning"));
      for (const remark of prediction.remarks) said.append(make("p", `Check: ${remark}`, "warning"));
      said.append(bars(prediction));
      for (const warning of prediction.warnings) said.append(make("p", `Note: ${warning}.`, "note"));
    }
    entry.append(said);
    return entry;
  };

  const offerChannels = () => {
    const expected = model.spec.input.preprocessing.channels.map((one) => one.name);
    const rows = chosen.map((file, index) => {
      const row = make("div", "", "row");
      const label = make("label", file.name);
      const select = make("select");
      label.htmlFor = select.id = `channel-${index}`;
      for (const name of expected) select.append(new Option(name));
      select.selectedIndex = Math.min(index, expected.length - 1);
      row.append(label, select);
      return row;
    });
    get("channels").replaceChildren(...rows);
    get("channels-form").hidden = false;
  };

  const classify = async (channels = []) => {
    const mine = (asked += 1);
    const count = chosen.length === 1 ? "1 file" : `${chosen.length} files`;
    get("problem").hidden = true;
    get("channels-form").hidden = true;
    get("answers").replaceChildren();
    get("status").textContent = `Classifying ${count} …`;
    const form = new FormData();
    for (const file of chosen) form.append("image", file, file.name);
    const query = channels.map((name) => `channel=${encodeURIComponent(name)}`).join("&");
    try {
      if (!model) await loadModel();
      const answer = await ask(`/api/predict${query && "?"}${query}`, { method: "POST", body: form });
      const pictures = new Map(groups(chosen).map((group) => [group[0].file.name, picture(group)]));
      const cards = await Promise.all(answer.predictions.map((one) => card(one, pictures)));
      if (mine !== asked) return;
      get("answers").replaceChildren(...cards);
      const images = cards.length === 1 ? "1 image" : `${cards.length} images`;
      const failed = answer.predictions.filter((one) => one.error).length;
      const done = failed ? `${cards.length - failed} of ${images}` : images;
      get("status").textContent = `Classified ${done}.`;
    } catch (failure) {
      if (!failure.detail) throw failure;
      if (mine === asked) tell(failure);
    }
  };

  const choose = (files) => {
    chosen = [...files];
    if (chosen.length) classify();
  };

  get("files").addEventListener("change", (event) => {
    choose(event.target.files);
    // So that the same files can be chosen again.
    event.target.value = "";
  });
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      get("drop").classList.toggle("over", name === "dragover");
      if (name === "drop") choose(event.dataTransfer.files);
    });
  }
  get("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    token = get("token").value.trim();
    get("token-form").hidden = true;
    get("problem").hidden = true;
    loadModel().then(() => chosen.length && classify(), tell);
  });
  get("channels-form").addEventListener("submit", (event) => {
    event.preventDefault();
    classify([...get("channels").querySelectorAll("select")].map((select) => select.value));
  });
  loadModel().catch(tell);
}
