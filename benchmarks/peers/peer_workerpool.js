// peer_workerpool.js QUESTION: Node's workerpool with child processes. It has no chunks: "best chunk size" is slices made here.
// The workers run this file, too, as what offers the functions.
'use strict';
const fs = require('fs');
const os = require('os');
const path = require('path');
const workerpool = require('workerpool');

const WORKERS = 2, WINDOW = 1000, PAYLOAD = 1 << 20;
const now = () => Number(process.hrtime.bigint()) / 1e9;

// ---- in the workers

const cpuSeconds = () => { const used = process.cpuUsage(); return (used.user + used.system) / 1e6; };
const nap = new Int32Array(new SharedArrayBuffer(4));
const functions = {
    same: (item) => item,
    spin: (us) => { const end = cpuSeconds() + us / 1e6; while (cpuSeconds() < end); },
    // Until as many as are expected have come: so each worker comes once.
    meet: (file, workers) => {
        fs.appendFileSync(file, 'x');
        while (fs.statSync(file).size < workers)
            Atomics.wait(nap, 0, 0, 0.2);
    },
};

// ---- the questions

const makePool = (workers) => workerpool.pool(__filename, { workerType: 'process', minWorkers: workers, maxWorkers: workers,
    forkOpts: { serialization: 'advanced' } });
const answer = (question, setting, value, unit, note = '') =>
    console.log(JSON.stringify({ question, setting, value, unit, note }));

async function seconds(run) {
    const start = now();
    await run();
    return now() - start;
}

// run(count) for counts that grow until it takes 0.2 s: items a second of the last.
async function rate(run, most) {
    for (let count = 1000;; count *= 10) {
        const took = await seconds(() => run(count));
        if (took >= 0.2 || count >= most)
            return count / took;
    }
}

async function oneByOne(pool, count) {
    for (let done = 0; done < count; done += WINDOW)
        await Promise.all(Array.from({ length: WINDOW }, (_, i) => pool.exec('same', [i])));
}

function slices(pool, count, size) {
    const calls = [];
    for (let start = 0; start < count; start += size)
        calls.push(pool.exec('same', [Array.from({ length: Math.min(size, count - start) }, (_, i) => start + i)]));
    return Promise.all(calls);
}

async function askMap(pool) {
    let best = [0, 0];
    for (const size of [1000, 10000, 50000]) {
        const found = await rate((count) => slices(pool, count, size), 1000000);
        best = found > best[0] ? [found, size] : best;
    }
    answer('map', 'best chunk size', best[0] / 1e6, 'M items/s', `slices of ${best[1]} made by hand`);
}

async function askTasks(pool) {
    answer('tasks', 'default', await rate((count) => oneByOne(pool, count), 1000000) / 1e6, 'M/s', '1,000 at a time');
}

async function askRoundtrip(pool) {
    const us = [];
    for (let i = -200; i < 2000; i++) {
        const took = await seconds(() => pool.exec('same', [1]));
        if (i >= 0)
            us.push(took * 1e6);
    }
    us.sort((a, b) => a - b);
    answer('roundtrip', 'median', us[us.length >> 1], 'us');
    answer('roundtrip', '99th percentile', us[Math.floor(us.length * 0.99)], 'us');
}

async function askStart() {
    for (const workers of [2, 16]) {
        const file = path.join(os.tmpdir(), `peer-${process.pid}-${workers}`);
        const start = now();
        const pool = makePool(workers);
        await Promise.all(Array.from({ length: workers }, () => pool.exec('meet', [file, workers])));
        answer('start', `${workers} workers`, (now() - start) * 1e3, 'ms');
        await pool.terminate();
        fs.unlinkSync(file);
    }
}

async function askEcho(pool) {
    const payload = Buffer.alloc(PAYLOAD, 1);
    const took = await seconds(async () => { for (let i = 0; i < 40; i++) await pool.exec('same', [payload]); });
    answer('echo', '1 MiB', 2 * PAYLOAD * 40 / took / 1e9, 'GB/s');
}

async function askUneven(pool) {
    const costs = fs.readFileSync(process.env.PEER_COSTS, 'utf8').trim().split('\n').map(Number);
    const ideal = Math.max(costs.reduce((a, b) => a + b) / WORKERS, ...costs) / 1e6;
    const took = await seconds(() => Promise.all(costs.map((us) => pool.exec('spin', [us]))));
    answer('uneven', 'one by one', took / ideal, 'x ideal');
}

async function main(question) {
    const questions = { map: askMap, tasks: askTasks, roundtrip: askRoundtrip, echo: askEcho, uneven: askUneven };
    if (question === 'start')
        return askStart();
    if (!(question in questions))
        return undefined;
    const workers = question === 'roundtrip' || question === 'echo' ? 1 : WORKERS;
    const pool = makePool(workers);
    await Promise.all(Array.from({ length: 4 * workers }, () => pool.exec('same', [1])));
    await questions[question](pool);
    return pool.terminate();
}

if (process.send)
    workerpool.worker(functions);
else
    main(process.argv[2]);
