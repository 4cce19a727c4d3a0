// Asks the registry for advisories of what production installs. The last line counts, as .ci/run adds it up.
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import path from 'node:path'

/** An advisory that was looked at and is lived with, for a reason and until a day. */
export interface Exception {
  /** `GHSA-xxxx-xxxx-xxxx` */
  advisory: string
  package: string
  reason: string
  /** When it was looked at, YYYY-MM-DD. */
  date: string
  /** From this day on it fails again, YYYY-MM-DD. */
  expires: string
}

interface Advisory {
  url?: string
  name?: string
  title?: string
  severity?: string
}

const SERIOUS = new Set(['high', 'critical'])

export interface Verdict {
  lines: string[]
  passed: number
  failed: number
  skipped: number
}

/**
 * Judges a report of `npm audit --json`. High and critical advisories fail unless an exception that has not expired names
 * them; others are told. A text that is no report means that the registry was not reached: skipped, since the code is not
 * at fault.
 */
export function judge(report: string, exceptions: readonly Exception[], today: string): Verdict {
  const verdict: Verdict = { lines: [], passed: 0, failed: 0, skipped: 0 }
  let parsed: { auditReportVersion?: number; vulnerabilities?: Record<string, { via: (string | Advisory)[] }> }
  try {
    parsed = JSON.parse(report)
  } catch {
    parsed = {}
  }
  if (parsed.auditReportVersion === undefined || parsed.vulnerabilities === undefined) {
    verdict.lines.push('SKIPPED: the registry did not answer the question for advisories')
    return { ...verdict, skipped: 1 }
  }
  const advisories = new Map<string, Advisory>()
  for (const { via } of Object.values(parsed.vulnerabilities))
    for (const one of via) if (typeof one === 'object') advisories.set(`${idOf(one)} ${one.name}`, one)
  for (const exception of exceptions) {
    const { advisory, package: name, reason, date, expires } = exception
    if (!/^GHSA(-\w{4}){3}$/.test(advisory) || !name || !reason || !/^\d{4}-\d\d-\d\d$/.test(date) || !/^\d{4}-\d\d-\d\d$/.test(expires)) {
      verdict.failed++
      verdict.lines.push(`not ok - an exception needs advisory, package, reason, date and expires: ${JSON.stringify(exception)}`)
    } else if (!advisories.has(`${advisory} ${name}`)) verdict.lines.push(`${advisory} ${name}: no longer reported, the exception can go`)
  }
  for (const [key, { name = '', title = '', severity = '' }] of advisories) {
    const advisory = key.split(' ')[0]!
    const exception = exceptions.find((one) => one.advisory === advisory && one.package === name)
    const text = `${advisory} ${name} (${severity}): ${title}`
    if (!SERIOUS.has(severity)) verdict.lines.push(text)
    else if (exception && exception.expires > today) {
      verdict.passed++
      verdict.lines.push(`${text}; excepted until ${exception.expires}: ${exception.reason}`)
    } else {
      verdict.failed++
      verdict.lines.push(`not ok - ${text}${exception ? `; its exception expired on ${exception.expires}` : ''}`)
    }
  }
  if (verdict.failed === 0) verdict.passed++
  return verdict
}

const idOf = ({ url = '' }: Advisory): string => url.slice(url.lastIndexOf('/') + 1)

/** The report, or whatever npm said instead. npm ends with 1 where there are advisories, and where it failed. */
const auditReport = (root: string): Promise<string> =>
  new Promise((resolve) =>
    execFile(
      'npm',
      ['audit', '--omit=dev', '--json', '--audit', '--fetch-retries=1', '--fetch-timeout=60000'],
      { cwd: root, maxBuffer: 64 * 1024 * 1024, timeout: 180_000 },
      (_error, stdout) => resolve(stdout),
    ),
  )

if (import.meta.main) {
  const exceptions = JSON.parse(readFileSync(path.join(import.meta.dirname, 'advisories.json'), 'utf8')) as Exception[]
  const verdict = judge(await auditReport(path.join(import.meta.dirname, '..')), exceptions, new Date().toISOString().slice(0, 10))
  const { lines, passed, failed, skipped } = verdict
  process.stdout.write(`${[...lines, `${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`].join('\n')}\n`)
  process.exit(failed === 0 ? 0 : 1)
}
