// The checks that a process must pass before a database is used: asked again until they were answered.
import type { Config } from './config.ts'
import type { Log } from './log.ts'
import { type MigrationTarget, problemsOf } from './migrations.ts'
import { targetsOf } from './start.ts'

const RETRY_MS = 1_000

/**
 * Holds every database of the configuration back until it has answered the checks: no pending migration, forced row
 * security on every tenant table, a role that owns nothing and cannot bypass it. A database that is away at the start is
 * asked every second; until it has answered, nothing is read from it or written to it. One that answers and is unsafe
 * ends the process, then as at the start.
 */
export class SafetyCheck {
  readonly #waiting: Set<MigrationTarget>
  readonly #refuse: (problems: readonly string[]) => void
  readonly #log: Log
  #timer: NodeJS.Timeout | undefined
  #wake: (() => void)[] = []

  /** @param refuse told of an unsafe database; ends the process */
  constructor(config: Config, log: Log, refuse: (problems: readonly string[]) => void) {
    this.#waiting = new Set(targetsOf(config))
    this.#log = log
    this.#refuse = refuse
  }

  /** Asks every database once, and goes on asking those that did not answer. */
  async start(): Promise<void> {
    await this.#ask()
    if (this.#waiting.size > 0) {
      const targets = [...this.#waiting].map(({ name }) => name)
      this.#log.root.warn({ targets }, 'databases are away: nothing is served from them before they were checked')
    }
  }

  /** Whether every check of the database at this URL was answered and passed. */
  passed(url: string): boolean {
    return ![...this.#waiting].some((target) => target.url === url)
  }

  /** Resolves when the database at this URL has passed. */
  async untilPassed(url: string): Promise<void> {
    while (!this.passed(url)) await new Promise<void>((resolve) => this.#wake.push(resolve))
  }

  stop(): void {
    clearTimeout(this.#timer)
  }

  async #ask(): Promise<void> {
    const problems: string[] = []
    await Promise.all(
      [...this.#waiting].map(async (target) => {
        const found = await problemsOf(target).catch(() => null)
        if (found === null) return
        if (found.length === 0) this.#waiting.delete(target)
        problems.push(...found)
      }),
    )
    if (problems.length > 0) return this.#refuse(problems)
    for (const wake of this.#wake.splice(0)) wake()
    if (this.#waiting.size > 0) this.#timer = setTimeout(() => void this.#ask(), RETRY_MS)
  }
}
