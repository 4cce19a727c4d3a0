// The strings of a workbook that its cells name by number, kept as bytes outside of the JavaScript heap.
import { TABLE_LIMITS, TableError } from './table-limits.ts'

const FIRST_BYTES = 64 * 1024

/**
 * Strings by index. They are appended to one buffer, which grows by doubling and never beyond `sharedBytes`, so neither their
 * number nor their length decides how much memory a workbook takes.
 */
export class SharedStrings {
  #bytes = Buffer.allocUnsafe(FIRST_BYTES)
  #used = 0
  /** The end of each string in the buffer. */
  #ends = new Uint32Array(1024)
  #count = 0

  add(text: string): void {
    const room = this.#used + text.length * 3 // the largest number of bytes in UTF-8
    const { sharedBytes, sharedStrings } = TABLE_LIMITS
    if (this.#count >= sharedStrings || room > sharedBytes)
      throw new TableError(
        'unpacked',
        `A workbook has at most ${sharedStrings} different texts, of ${sharedBytes / 1024 / 1024} MB together.`,
      )
    if (room > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(Math.min(sharedBytes, Math.max(room, 2 * this.#bytes.length)))
      this.#bytes.copy(larger, 0, 0, this.#used)
      this.#bytes = larger
    }
    if (this.#count === this.#ends.length) {
      const larger = new Uint32Array(2 * this.#ends.length)
      larger.set(this.#ends)
      this.#ends = larger
    }
    this.#used += this.#bytes.write(text, this.#used, 'utf8')
    this.#ends[this.#count++] = this.#used
  }

  /** Undefined beyond the last one. */
  get(index: number): string | undefined {
    if (!Number.isInteger(index) || index < 0 || index >= this.#count) return undefined
    return this.#bytes.toString('utf8', index === 0 ? 0 : this.#ends[index - 1], this.#ends[index])
  }
}
