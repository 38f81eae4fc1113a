/*
 * What other queues and workflow engines make of the same PostgreSQL.  Prints one line of JSON.
 *
 *   node peers.mjs graphile|graphile-bulk|pgboss|dbos creates|e2e|steps10 URL SECONDS
 *
 * creates: jobs a second, each asked for alone, 64 at a time.
 * e2e: jobs a second from being asked for, in batches where there are any, to their end; they do nothing.
 * steps10: workflows a second of ten steps that do nothing and are kept.
 */
import { performance } from "node:perf_hooks";
import pg from "pg";

const CALLERS = 64, JOBS = 20000;
const [peer, figure, url, seconds] = process.argv.slice(2);

/* Calls from so many callers until the time is over; how many a second. */
async function rate(callers, call) {
        const began = performance.now(), until = began + Number(seconds) * 1000;
        let done = 0;
        await Promise.all(Array.from({ length: callers }, async () => {
                for (; performance.now() < until; done++)
                        await call();
        }));
        return done / ((performance.now() - began) / 1000);
}

/* How many of JOBS a second, from `add` to the last one's end; `start` returns what stops it. */
async function endToEnd(add, start) {
        let done = 0, all;
        const over = new Promise((resolve) => (all = resolve));
        const began = performance.now();
        await add();
        const stop = await start(() => ++done === JOBS && all());
        await over;
        const took = (performance.now() - began) / 1000;
        await stop();
        return JOBS / took;
}

async function graphile() {
        const { run, makeWorkerUtils, Logger } = await import("graphile-worker");
        const pool = new pg.Pool({ connectionString: url, max: CALLERS });
        const utils = await makeWorkerUtils({ pgPool: pool });
        const bulk = peer === "graphile-bulk";
        await utils.migrate();
        if (figure === "creates")
                return rate(CALLERS, () => utils.addJob("noop", { title: "bench" }));
        return endToEnd(
                () => pool.query("SELECT 1 FROM graphile_worker.add_jobs(ARRAY(SELECT json_populate_record(" +
                        "null::graphile_worker.job_spec, '{\"identifier\":\"noop\"}') FROM generate_series(1, $1::int)))",
                        [JOBS]),
                async (ended) => {
                        const runner = await run({
                                pgPool: pool, noHandleSignals: true, taskList: { noop: async () => ended() },
                                logger: new Logger(() => () => {}),
                                preset: bulk ? { worker: { concurrentJobs: 24, localQueue: { size: 500 },
                                                           completeJobBatchDelay: 0, failJobBatchDelay: 0 } } :
                                               { worker: { concurrentJobs: 24 } } });
                        return () => runner.stop();
                });
}

async function pgboss() {
        const { default: Boss } = await import("pg-boss");
        const boss = new Boss({ connectionString: url, max: CALLERS, supervise: figure !== "creates" });
        boss.on("error", (e) => { throw e; });
        await boss.start();
        await boss.createQueue("noop");
        if (figure === "creates")
                return rate(CALLERS, () => boss.send("noop", { title: "bench" }));
        return endToEnd(
                () => boss.insert(Array.from({ length: JOBS }, () => ({ name: "noop" }))),
                async (ended) => {
                        await boss.work("noop", { batchSize: 500, pollingIntervalSeconds: 0.5 },
                                        async (jobs) => { jobs.forEach(ended); });
                        return () => boss.stop({ graceful: false });
                });
}

async function dbos() {
        const { DBOS, DBOSClient } = await import("@dbos-inc/dbos-sdk");
        DBOS.setConfig({ name: "bench", systemDatabaseUrl: url, systemDatabasePoolSize: CALLERS,
                         logLevel: "error", runAdminServer: false });
        const steps = figure === "steps10" ? 10 : 1;
        const workflow = DBOS.registerWorkflow(async () => {
                for (let i = 0; i < steps; i++)
                        await DBOS.runStep(async () => i, { name: "noop" });
        }, { name: "bench" });
        await DBOS.launch();
        if (figure !== "creates")
                return rate(CALLERS, async () => (await DBOS.startWorkflow(workflow)()).getResult());
        const client = await DBOSClient.create({ systemDatabaseUrl: url });
        return rate(CALLERS, () => client.enqueue({ workflowName: "bench", queueName: "unserved" }));
}

const peers = { graphile, "graphile-bulk": graphile, pgboss, dbos };
console.log(JSON.stringify({ rate: await peers[peer]() }));
process.exit(0);
