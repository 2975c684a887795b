// node.js ROW [COUNT] -- the rows of the bench that Node's worker threads can do: messages between two threads of one process (copied by structured
// clone). Prints one number, in the unit of the row (run.lua). Only where node is installed.
const { Worker, isMainThread, parentPort, workerData } = require("worker_threads");

const messages = { queue_int: 1, queue_table: { id: 1, name: "food", n: 3.5 } };

if (!isMainThread) {
  const { row, count } = workerData;
  if (row === "round_trip") parentPort.on("message", (m) => parentPort.postMessage(m));
  else {
    const message = messages[row];
    parentPort.once("message", () => { for (let i = 0; i < count; i++) parentPort.postMessage(message); });
  }
  parentPort.postMessage("ready");
} else {
  const row = process.argv[2];
  const count = Number(process.argv[3] || (row === "round_trip" ? 20000 : 300000));
  if (row !== "round_trip" && messages[row] === undefined) { console.error("no row " + row); process.exit(3); }
  const worker = new Worker(__filename, { workerData: { row, count } });
  let start, got = 0, ready = false;
  worker.on("message", (m) => {
    if (!ready) {
      ready = true;
      start = process.hrtime.bigint();
      worker.postMessage(1);
    } else if (++got === count) {
      const ns = Number(process.hrtime.bigint() - start) / count;
      console.log((row === "round_trip" ? ns / 1000 : ns).toPrecision(6));
      worker.terminate();
    } else if (row === "round_trip") worker.postMessage(got);
  });
}
