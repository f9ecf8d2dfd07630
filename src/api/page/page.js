// Progress of uploads, dropped files, and pending files that become final. Without this script everything else works.
"use strict";
(() => {
  const form = document.getElementById("upload");
  const list = document.getElementById("uploads");

  const line = (name) => {
    const item = document.createElement("li");
    const text = document.createElement("span");
    const bar = document.createElement("progress");
    bar.max = 100;
    bar.value = 0;
    bar.setAttribute("aria-label", "Sending " + name);
    text.textContent = name + ": sending";
    item.append(text, bar);
    list.append(item);
    return {
      part: (percent) => { bar.value = percent; },
      wait: () => { text.textContent = name + ": sent; waiting for the nodes to confirm"; bar.removeAttribute("value"); },
      end: (words) => { text.textContent = name + ": " + words; bar.remove(); },
    };
  };

  const send = (file) => new Promise((done) => {
    const shown = line(file.name);
    const request = new XMLHttpRequest();
    request.open("POST", "/v1/files?name=" + encodeURIComponent(file.name));
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.responseType = "json";
    request.upload.onprogress = (event) => { if (event.lengthComputable) shown.part(100 * event.loaded / event.total); };
    request.upload.onload = () => shown.wait();
    request.onload = () => {
      const answer = request.response || {};
      if (request.status === 401) { location.assign("/login"); return; }
      if (request.status !== 200) { shown.end("not stored: " + (answer.detail || request.statusText)); done(false); return; }
      shown.end(answer.status === "final" ? "final" : "pending: " + (answer.reason || "too few nodes have confirmed"));
      done(true);
    };
    request.onerror = () => { shown.end("not stored: the connection broke"); done(false); };
    request.send(file);
  });

  const sendAll = async (files) => {
    let all = true;
    for (const file of files) { all = await send(file) && all; }
    // What failed stays to be read.
    if (all) location.assign("/");
  };

  if (form && list) {
    const input = form.querySelector("input[type=file]");
    input.multiple = true;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (input.files.length > 0) sendAll([...input.files]);
    });
    form.addEventListener("dragover", (event) => { event.preventDefault(); form.classList.add("over"); });
    form.addEventListener("dragleave", () => form.classList.remove("over"));
    form.addEventListener("drop", (event) => {
      event.preventDefault();
      form.classList.remove("over");
      sendAll([...event.dataTransfer.files]);
    });
  }

  const pending = [...document.querySelectorAll("[data-status=pending]")];
  const look = async () => {
    for (const place of pending) {
      const answer = await fetch("/v1/files/" + place.dataset.file + "/info").catch(() => null);
      if (answer && answer.ok && (await answer.json()).status !== "pending") { location.reload(); return; }
    }
    setTimeout(look, 3000);
  };
  if (pending.length > 0) setTimeout(look, 3000);
})();
