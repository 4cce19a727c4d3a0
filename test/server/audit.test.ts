// The check of advisories, by npm itself against a registry of the test's own.
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import path from 'node:path'
import t from 'tap'
import { type Exception, judge } from '../../.ci/audit.ts'

const root = path.join(import.meta.dirname, '../..')
const exception = (overrides: Partial<Exception> = {}): Exception => ({
  advisory: 'GHSA-aaaa-bbbb-cccc',
  package: 'undici',
  reason: 'Only reached from tests',
  date: '2026-01-01',
  expires: '2026-06-01',
  ...overrides,
})
const report = (severity: string) =>
  JSON.stringify({
    auditReportVersion: 2,
    vulnerabilities: {
      undici: { via: [{ name: 'undici', title: 'Something', severity, url: 'https://github.com/advisories/GHSA-aaaa-bbbb-cccc' }] },
      other: { via: ['undici'] },
    },
  })

t.test('R10: an advisory fails by its severity, unless an exception that has not expired names it', async (t) => {
  t.match(judge(report('high'), [], '2026-03-01'), {
    passed: 0,
    failed: 1,
    skipped: 0,
    lines: [/not ok - GHSA-aaaa-bbbb-cccc undici \(high\)/],
  })
  t.match(judge(report('critical'), [], '2026-03-01'), { failed: 1 })
  t.match(judge(report('moderate'), [], '2026-03-01'), { passed: 1, failed: 0 })
  t.match(judge(report('high'), [exception()], '2026-03-01'), { passed: 2, failed: 0 })
  t.match(judge(report('high'), [exception()], '2026-06-01'), { failed: 1, lines: [/expired on 2026-06-01/] })
  t.match(judge(report('high'), [exception({ package: 'other' })], '2026-03-01'), { failed: 1 })
  t.match(judge(report('high'), [exception({ reason: '' })], '2026-03-01'), { failed: 1 })
  t.match(judge(JSON.stringify({ auditReportVersion: 2, vulnerabilities: {} }), [], '2026-03-01'), { passed: 1, failed: 0 })
  for (const text of ['', '<html>', '{"error":{"code":"ENOTFOUND"}}', '{"message":"request failed"}'])
    t.match(judge(text, [], '2026-03-01'), { passed: 0, failed: 0, skipped: 1, lines: [/^SKIPPED/] }, text)
})

t.test('R10: npm asks the registry; one that is away is no fault of the code', { timeout: 120_000 }, async (t) => {
  let answer: object | null = {}
  const server = createServer((request, response) => {
    request.resume()
    if (request.url !== '/-/npm/v1/security/advisories/bulk' || answer === null) response.writeHead(404).end('{}')
    else response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as { port: number }
  const audit = (registry: string): Promise<{ code: number; text: string }> =>
    new Promise((resolve) =>
      execFile('.ci/audit', { cwd: root, env: { ...process.env, npm_config_registry: registry } }, (error, stdout) =>
        resolve({ code: error ? Number(error.code) : 0, text: stdout }),
      ),
    )
  const here = `http://127.0.0.1:${port}/`
  t.match(await audit(here), { code: 0, text: /^1 passed, 0 failed\n$/ })
  answer = {
    undici: [
      {
        id: 1,
        url: 'https://github.com/advisories/GHSA-zzzz-zzzz-zzzz',
        title: 'Everything',
        severity: 'high',
        vulnerable_versions: '>=0',
      },
    ],
  }
  t.match(await audit(here), { code: 1, text: /not ok - GHSA-zzzz-zzzz-zzzz undici \(high\): Everything\n0 passed, 1 failed\n$/ })
  answer = null
  t.match(await audit(here), { code: 0, text: /^SKIPPED.*\n0 passed, 0 failed, 1 skipped\n$/ })
  t.match(await audit('http://127.0.0.1:1/'), { code: 0, text: /^SKIPPED.*\n0 passed, 0 failed, 1 skipped\n$/ })
})
