"use strict";
// A run at work: what is new is asked for every few seconds and drawn where it is looked at.
(() => {
  const { make } = Viewer;
  const WAIT = 2000;

  // The server's state, by the way that all data comes: a script, as the page may not fetch.
  const ask = () => {
    Viewer.chunks.delete("state");
    Viewer.waiting.delete("state");
    return Viewer.chunk("state").finally(() => document.querySelectorAll("script[src='data/state.js']").forEach((script) => script.remove()));
  };

  const tell = (text) => { document.getElementById("live").textContent = text; };

  const PATIENCE = 3; // questions without an answer, as a folder may be replaced while it is read

  Viewer.follow = async () => {
    let unanswered = 0;
    document.querySelector("header").append(make("p", { id: "live", class: "soft", role: "status" }));
    for (;;) {
      try {
        const state = await ask();
        unanswered = 0;
        if (state.finished) {
          location.reload();
          return;
        }
        const before = JSON.stringify([Viewer.run.units, Viewer.run.trainings, Viewer.run.geometry]);
        Object.assign(Viewer.run, state);
        tell(`${state.units.length} artifacts are made. ` + (state.working.length ? `At work: ${
          state.working.map(({ name, seconds }) => `${name} (${Math.round(seconds)} s)`).join(", ")}.` : "Nothing is at work."));
        if (JSON.stringify([state.units, state.trainings, state.geometry]) !== before) {
          Viewer.listViews();
          const top = scrollY;
          await Viewer.show();
          scrollTo(0, top);
        }
      } catch {
        if (++unanswered === PATIENCE) {
          tell("The server has ended; this page stays as it was.");
          return;
        }
      }
      await new Promise((done) => setTimeout(done, WAIT));
    }
  };
})();
