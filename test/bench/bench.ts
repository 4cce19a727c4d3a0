// `npm run bench`: what our layers cost, as ratios against limits measured in the same run. `-- --json` prints one object a line.
//   list       an authorised list over HTTP        against the same SQL in bare Fastify + pg, without sign-in and row security
//   create     a purchase order of ten lines       against the bare transaction that writes the same rows
//   rbac       one warm decision, p99 in µs        against 20 µs; one whose grants are read from the database, against 2 ms
//   menu       the menu that has not changed (304) against a bare Fastify route that says so
//   trail      creating a purchase order           against the same without its audit triggers
//   noop       an authenticated request that does nothing  against a bare Fastify route with the same answer
//   login      what argon2 takes of a sign-in; p99 of other requests alone against p99 while 200 sign in at once; how long an
//              unknown address and a wrong password take
//   rights     the matrix of 500 users against a second, explain against 20 ms
//   audit      rows of the trail verified a second, against 50,000
//   telemetry  Kafka → table                       against COPY of the same rows
//   readings   questions about readings, alerts under load and a thousand who watch, against their goals
//   move       how long writers wait while a tenant of ten tables × 200,000 rows is moved, against 2 s
//   stock      lists, postings, values and back-dating of a tenant with 200,000 products and 2,000,000 moves
//   imports    100,000 products from a file, made and changed, against 5,000 a second and the insert of the same rows alone
//   tenancy    making tenants in each mode, finding them, serving many from databases of their own, migrating their schemas
import { create, list, trail } from './erp.ts'
import { menu, noop, rbac } from './gate.ts'
import { close, detail, json, note, results } from './harness.ts'
import { imports } from './imports.ts'
import { move } from './move.ts'
import { login } from './people.ts'
import { readings } from './readings.ts'
import { audit, rights } from './rights.ts'
import { stock } from './stock.ts'
import { telemetry } from './telemetry.ts'
import { tenancy } from './tenancy.ts'

const measurements = { list, create, noop, menu, login, rights, audit, rbac, trail, telemetry, readings, tenancy, move, stock, imports }
const only = process.argv.find((argument) => argument.startsWith('--only='))?.slice(7)
for (const [name, measure] of Object.entries(measurements)) if (!only || only === name) await measure()
await close()

if (json) for (const result of results) process.stdout.write(`${JSON.stringify(result)}\n`)
else {
  const goal: Record<string, number> = {
    list: 0.75,
    create: 0.5,
    noop: 0.8,
    menu: 0.85,
    rbac: 1,
    'rbac, cold, p50': 1,
    'rbac, cold, p99': 1,
    trail: 0.87,
    telemetry: 0.5,
  }
  note('\n| what | ratio | goal | ours | limit | unit |\n| --- | --- | --- | --- | --- | --- |')
  for (const r of results)
    note(`| ${r.name} | ${r.ratio.toFixed(2)} | ${goal[r.name] ?? ''} | ${r.ours.toFixed(1)} | ${r.limit.toFixed(1)} | ${r.unit} |`)
  note('\n| load | req/s | p50 ms | p99 ms | CPU s / 1,000 | RSS MB |\n| --- | --- | --- | --- | --- | --- |')
  for (const text of detail) note(text)
}
process.exit(0)
