import type { Tx } from '../kernel/index.ts'

/** Entries that are kept in memory at most; beyond it all are read again. */
const MAX_ENTRIES = 10_000

/** Values by id, kept until the id has another version. */
export class VersionedCache<T> {
  readonly #known = new Map<string, { version: number; value: T }>()
  readonly #load: (tx: Tx, ids: readonly string[]) => Promise<ReadonlyMap<string, T>>

  /** @param load reads values by id in one statement; ids that it leaves out have none */
  constructor(load: (tx: Tx, ids: readonly string[]) => Promise<ReadonlyMap<string, T>>) {
    this.#load = load
  }

  /**
   * The values of these ids; those that are not known in their version are read. A change that commits between the reading
   * of a version and this one is seen here already, and read once more with the next batch.
   * @param versions by id
   */
  async of(tx: Tx, versions: ReadonlyMap<string, number>): Promise<ReadonlyMap<string, T>> {
    const found = new Map<string, T>()
    const missing: string[] = []
    for (const [id, version] of versions) {
      const known = this.#known.get(id)
      if (known?.version === version) found.set(id, known.value)
      else missing.push(id)
    }
    if (missing.length === 0) return found
    if (this.#known.size + missing.length > MAX_ENTRIES) this.#known.clear()
    for (const [id, value] of await this.#load(tx, missing)) {
      this.#known.set(id, { version: versions.get(id)!, value })
      found.set(id, value)
    }
    return found
  }
}
