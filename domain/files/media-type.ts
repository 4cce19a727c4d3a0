// The type of a file by its bytes, never by its name or by what the sender declares.
import { fileTypeFromFile } from 'file-type'
import { failure } from '../kernel/index.ts'

const OFFICE = 'application/vnd.openxmlformats-officedocument'
const OPEN = 'application/vnd.oasis.opendocument'

/** Types of uploads that are taken by default: none of them is run when it is opened. Office documents with macros are not among them. */
export const ALLOWED_TYPES: readonly string[] = [
  'image/jpeg',
  'image/png',
  'image/webp',
  'image/gif',
  'image/avif',
  'image/tiff',
  'image/heic',
  'application/pdf',
  'text/plain',
  'application/xml',
  'application/rtf',
  `${OFFICE}.spreadsheetml.sheet`,
  `${OFFICE}.wordprocessingml.document`,
  `${OFFICE}.presentationml.presentation`,
  `${OPEN}.spreadsheet`,
  `${OPEN}.text`,
  `${OPEN}.presentation`,
]

/** Throws `file_type_not_allowed`, which says the type that was found and those that are taken. */
export function assertAllowedType(mediaType: string, allowed: readonly string[]): void {
  const matches = (pattern: string) => pattern === mediaType || (pattern.endsWith('/*') && mediaType.startsWith(pattern.slice(0, -1)))
  if (!allowed.some(matches)) throw failure('file_type_not_allowed', { media_type: mediaType, allowed })
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters tell binary data from text
const CONTROL = /[\x00-\x08\x0e-\x1f]/
const ENCODINGS = ['utf-8', 'utf-16le', 'windows-1252'] as const

/**
 * Decides while bytes pass by whether they are text in UTF-8, in UTF-16 with a byte order mark, or in a single-byte encoding:
 * valid, and without control characters.
 */
export class TextDetector {
  #candidates = ENCODINGS.map((encoding) => ({ encoding, decoder: new TextDecoder(encoding, { fatal: true }) }))
  #first = true

  add(chunk: Buffer): void {
    if (this.#first) {
      this.#first = false
      const marked = chunk[0] === 0xff && chunk[1] === 0xfe
      this.#candidates = this.#candidates.filter(({ encoding }) => (encoding === 'utf-16le') === marked)
    }
    this.#candidates = this.#candidates.filter(({ decoder }) => {
      try {
        return !CONTROL.test(decoder.decode(chunk, { stream: true }))
      } catch {
        return false
      }
    })
  }

  /** `marked`: its byte order mark says so, which some signatures of other types begin with, too. */
  get verdict(): 'marked' | 'text' | 'binary' {
    const [first] = this.#candidates
    return first === undefined ? 'binary' : first.encoding === 'utf-16le' ? 'marked' : 'text'
  }
}

/** The media type of a file; bytes without a signature are text or `application/octet-stream`. */
export async function mediaTypeOf(file: string, { verdict }: TextDetector): Promise<string> {
  if (verdict === 'marked') return 'text/plain'
  return (await fileTypeFromFile(file))?.mime ?? (verdict === 'text' ? 'text/plain' : 'application/octet-stream')
}
