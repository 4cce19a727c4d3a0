import { failure } from '../kernel/index.ts'

/** Lets so many through at a time, in the order of arrival, and lets so many wait. */
export class Turnstile {
  readonly #inside: number
  readonly #waitingRoom: number
  readonly #waiting: (() => void)[] = []
  #running = 0

  constructor(inside: number, waitingRoom: number) {
    this.#inside = inside
    this.#waitingRoom = waitingRoom
  }

  /** Throws `overloaded` when the waiting room is full: better to say so than to make all wait. */
  async pass<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running >= this.#inside) {
      if (this.#waiting.length >= this.#waitingRoom) throw failure('overloaded')
      await new Promise<void>((resume) => this.#waiting.push(resume)) // whoever leaves hands his place on
    } else {
      this.#running++
    }
    try {
      return await work()
    } finally {
      const next = this.#waiting.shift()
      if (next) next()
      else this.#running--
    }
  }
}
