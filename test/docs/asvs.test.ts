// docs/asvs.csv answers every requirement of OWASP ASVS 5.0.0, and its tests exist.
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { parse } from 'csv-parse/sync'
import t from 'tap'

const ROOT = path.join(import.meta.dirname, '..', '..')
/** Requirements of version 5.0.0 by level. */
const PER_LEVEL = { '1': 70, '2': 183, '3': 92 }

interface Requirement {
  id: string
  level: string
  requirement: string
  applies: string
  test: string
  title: string
  reason: string
}

const rows = parse(readFileSync(path.join(ROOT, 'docs', 'asvs.csv')), { columns: true }) as Requirement[]

t.test('docs/asvs.csv: every requirement once, numbered without gaps, with the counts of ASVS 5.0.0', async (t) => {
  const ids = rows.map(({ id }) => id)
  t.same(
    ids.filter((id, index) => ids.indexOf(id) !== index),
    [],
    'no id twice',
  )
  const sections = Map.groupBy(ids, (id) => id.slice(0, id.lastIndexOf('.')))
  for (const [section, members] of sections)
    t.same(
      members,
      members.map((_, index) => `${section}.${index + 1}`),
      `${section} is complete`,
    )
  t.same(
    Object.fromEntries(Object.entries(Object.groupBy(rows, ({ level }) => level)).map(([level, of]) => [level, of!.length])),
    PER_LEVEL,
  )
  t.ok(rows.every(({ requirement }) => requirement.length > 0))
})

t.test('docs/asvs.csv: an applicable requirement of level 1 or 2 has a test or a reason, one that does not apply a reason', async (t) => {
  for (const { id, level, applies, test, reason } of rows) {
    t.ok(['yes', 'no'].includes(applies), `${id} says whether it applies`)
    if (applies === 'no') t.ok(reason && !test, `${id} says why it does not apply`)
    else if (level !== '3') t.ok(test || reason, `${id} has a test or a reason`)
    if (applies === 'yes' && reason) t.match(reason, /^(met|gap): \S/, `${id} says met or gap`)
  }
})

t.test('docs/asvs.csv: each test that it names exists', async (t) => {
  for (const { id, test, title } of rows) {
    t.equal(test === '', title === '', `${id} has file and title or neither`)
    if (!test) continue
    const file = path.join(ROOT, test)
    t.ok(existsSync(file) && readFileSync(file, 'utf8').includes(title), `${id}: ${test} has "${title}"`)
  }
})
