// The checks that a process must pass before a database is used: asked again until they were answered.
import type { Config } from './config.ts'
import type { Log } from './log.ts'
import { type MigrationTarget, problemsOf } from './migrations.ts'
import { targetsOf } from './start.ts'

const RETRY_MS = 1_000
/** SQLSTATEs that waiting does not mend → what does. */
const MENDING: Readonly<Record<string, string>> = {
  '28P01': 'wrong credentials: correct the user and password of its URL',
  '28000': 'its role may not sign in: create the role, or correct the URL and pg_hba.conf',
  '3D000': 'the database does not exist: create it, or correct its URL',
  '42704': 'a role is missing: run npm run migrate',
  '42501': 'its role lacks a privilege: grant it tenantry_app',
}

/** Code and message of an error, also of one that holds an error for each address. */
function reasonOf(error: unknown): { code: string; reason: string } {
  const { code = 'unknown', message, errors = [] } = error as NodeJS.ErrnoException & { errors?: Error[] }
  return { code, reason: message || errors.map((one) => one.message).join('; ') }
}

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
  /** Why each database could not be checked, as last logged. */
  readonly #logged = new Map<MigrationTarget, string>()
  #timer: NodeJS.Timeout | undefined
  #stopped = false
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

  /** Ends the checks, also one under way: it starts no other. */
  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  /** Logs why a database could not be checked, once for each change of the reason. */
  #note(target: MigrationTarget, error: unknown): null {
    const { code, reason } = reasonOf(error)
    const known = this.#logged.get(target)
    this.#logged.set(target, `${code} ${reason}`)
    if (known === `${code} ${reason}`) return null
    const mend = MENDING[code]
    const message = `the database ${target.name} cannot be checked${mend ? `: ${mend}` : ''}`
    this.#log.root[mend ? 'error' : 'warn']({ target: target.name, code, reason }, message)
    return null
  }

  async #ask(): Promise<void> {
    const problems: string[] = []
    await Promise.all(
      [...this.#waiting].map(async (target) => {
        const found = await problemsOf(target).catch((error: unknown) => this.#note(target, error))
        if (found === null) return
        if (found.length === 0) this.#waiting.delete(target)
        problems.push(...found)
      }),
    )
    if (problems.length > 0) return this.#refuse(problems)
    for (const wake of this.#wake.splice(0)) wake()
    if (this.#waiting.size > 0 && !this.#stopped) this.#timer = setTimeout(() => void this.#ask(), RETRY_MS)
  }
}
