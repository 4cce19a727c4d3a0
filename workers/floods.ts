// Who sends so much more than the others that they would wait behind it.

/** How long what was sent is remembered, twice over. */
const WINDOW_MS = 10_000
/** A flood is more than so many times what the middle one of all senders sends. */
const TIMES = 10

/** Finds the senders that flood a topic, from how many bytes each of them has in it. */
export class Floods {
  #before = new Map<string, number>()
  #now = new Map<string, number>()
  #turned = Number.NEGATIVE_INFINITY
  readonly #flooding = new Set<string>()

  /**
   * Notes what came. Nobody begins to flood while nothing waits: then there is nobody in whose way to stand.
   * @param bytes by sender
   * @param at milliseconds
   */
  note(bytes: ReadonlyMap<string, number>, behind: boolean, at: number): void {
    if (at - this.#turned >= WINDOW_MS) {
      this.#before = at - this.#turned < 2 * WINDOW_MS ? this.#now : new Map()
      this.#now = new Map()
      this.#turned = at
    }
    for (const [sender, more] of bytes) this.#now.set(sender, (this.#now.get(sender) ?? 0) + more)
    const sent = new Map(this.#before)
    for (const [sender, more] of this.#now) sent.set(sender, (sent.get(sender) ?? 0) + more)
    const sizes = [...sent.values()].sort((a, b) => a - b)
    const most = TIMES * (sizes[Math.floor((sizes.length - 1) / 2)] ?? 0)
    for (const sender of this.#flooding) if ((sent.get(sender) ?? 0) <= most) this.#flooding.delete(sender)
    if (behind) for (const [sender, size] of sent) if (size > most) this.#flooding.add(sender)
  }

  has(sender: string): boolean {
    return this.#flooding.has(sender)
  }
}
