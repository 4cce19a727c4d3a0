// `npm run check`: format, lint, types and layers, in seconds.
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { layerViolations } from './layers.ts'

const root = path.join(import.meta.dirname, '..', '..')

/** Runs every check and returns how many were not clean. */
export async function check(): Promise<number> {
  let wrong = 0
  for (const [name, command, args] of [
    ['format and lint', 'biome', ['check', '--error-on-warnings', '.']],
    ['types', 'tsc', ['--noEmit']],
  ] as const) {
    const { status } = spawnSync(path.join(root, 'node_modules', '.bin', command), [...args], { cwd: root, stdio: 'inherit' })
    process.stdout.write(`${name}: ${status === 0 ? 'clean' : 'NOT CLEAN'}\n`)
    if (status !== 0) wrong++
  }
  const violations = await layerViolations(root)
  for (const violation of violations) process.stderr.write(`${violation}\n`)
  process.stdout.write(`layers: ${violations.length === 0 ? 'clean' : 'NOT CLEAN'}\n`)
  return wrong + (violations.length > 0 ? 1 : 0)
}

if (import.meta.main) process.exit((await check()) === 0 ? 0 : 1)
