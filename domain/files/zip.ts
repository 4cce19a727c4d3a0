// Parts of a zip file, unpacked one at a time within one budget of bytes.
import { type Readable, Transform } from 'node:stream'
import { type Entry, open, type ZipFile } from 'yauzl'
import { TABLE_LIMITS, TableError } from './table-limits.ts'
import { brokenWorkbook } from './xml.ts'

/** An open zip file. Only parts that are asked for are unpacked: what is packed in another part stays packed. */
export class ZipParts {
  readonly #zip: ZipFile
  readonly #entries: ReadonlyMap<string, Entry>
  #unpacked = 0

  private constructor(zip: ZipFile, entries: ReadonlyMap<string, Entry>) {
    this.#zip = zip
    this.#entries = entries
  }

  /** Reads the directory of a zip file. Throws `TableError` for what is none, or has too many parts. */
  static async open(file: string): Promise<ZipParts> {
    const zip = await new Promise<ZipFile>((resolve, reject) =>
      open(file, { lazyEntries: true, autoClose: false }, (error, opened) => (error ? reject(brokenWorkbook()) : resolve(opened))),
    )
    const entries = new Map<string, Entry>()
    let count = 0
    try {
      await new Promise<void>((resolve, reject) => {
        zip.on('error', () => reject(brokenWorkbook()))
        zip.on('end', resolve)
        zip.on('entry', (entry: Entry) => {
          if (++count > TABLE_LIMITS.parts) return reject(new TableError('unpacked', 'The workbook has too many parts.'))
          entries.set(entry.fileName, entry)
          zip.readEntry()
        })
        zip.readEntry()
      })
    } catch (error) {
      zip.close()
      throw error
    }
    return new ZipParts(zip, entries)
  }

  has = (name: string): boolean => this.#entries.has(name)

  /** The bytes of a part. The stream fails with a `TableError` once the file has unpacked more than `unpackedBytes`. */
  async read(name: string): Promise<Readable> {
    const entry = this.#entries.get(name)
    if (!entry) throw brokenWorkbook()
    const packed = await new Promise<Readable>((resolve, reject) =>
      this.#zip.openReadStream(entry, (error, stream) => (error ? reject(brokenWorkbook()) : resolve(stream))),
    )
    const counted = new Transform({
      transform: (chunk: Buffer, _encoding, next) => {
        this.#unpacked += chunk.length
        const { unpackedBytes: most } = TABLE_LIMITS
        if (this.#unpacked > most)
          return next(new TableError('unpacked', `The workbook is larger than ${most / 1024 / 1024} MB when it is unpacked.`))
        next(null, chunk)
      },
    })
    packed.on('error', () => counted.destroy(brokenWorkbook()))
    counted.on('close', () => packed.destroy())
    return packed.pipe(counted)
  }

  close(): void {
    this.#zip.close()
  }
}
