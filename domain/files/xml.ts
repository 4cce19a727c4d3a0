// XML of unknown origin, read in chunks: bounded in depth and in the length of everything between two tags.
import type { Readable } from 'node:stream'
import { SaxesParser } from 'saxes'
import { TABLE_LIMITS, TableError } from './table-limits.ts'

export interface XmlEvents {
  /** `name` has no namespace prefix; the attributes have theirs. */
  open(name: string, attributes: Readonly<Record<string, string>>): void
  close(name: string): void
  text(text: string): void
}

export const brokenWorkbook = () => new TableError('xlsx', 'The file is no workbook that can be read.')
const localName = (name: string): string => name.slice(name.indexOf(':') + 1)

/**
 * Parses a stream of UTF-8 and yields after each chunk, so that a consumer decides when more is read. Document types are
 * refused, so there are no entities to expand. The parser holds text until the next tag: a run of more than `xmlToken`
 * characters is refused before it is held. Throws `TableError`.
 */
export async function* readXml(bytes: Readable, events: XmlEvents): AsyncGenerator<void> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  const parser = new SaxesParser()
  let depth = 0
  let sinceTag = 0
  parser.on('doctype', () => {
    throw brokenWorkbook()
  })
  parser.on('opentag', ({ name, attributes }) => {
    sinceTag = 0
    if (++depth > TABLE_LIMITS.xmlDepth) throw brokenWorkbook()
    events.open(localName(name), attributes as Record<string, string>)
  })
  parser.on('closetag', ({ name }) => {
    sinceTag = 0
    depth--
    events.close(localName(name))
  })
  parser.on('text', (text) => events.text(text))
  parser.on('cdata', (text) => events.text(text))
  try {
    for await (const chunk of bytes) {
      const text = decoder.decode(chunk as Buffer, { stream: true })
      sinceTag += text.length
      parser.write(text)
      if (sinceTag > TABLE_LIMITS.xmlToken) throw brokenWorkbook()
      yield
    }
    parser.close()
  } catch (error) {
    throw error instanceof TableError ? error : brokenWorkbook()
  } finally {
    bytes.destroy()
  }
}
