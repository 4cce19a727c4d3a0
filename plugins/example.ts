// One example for a schema, put together from the examples of its parts.

interface Schema {
  type?: string | string[]
  examples?: unknown[]
  enum?: unknown[]
  const?: unknown
  default?: unknown
  format?: string
  minimum?: number
  minLength?: number
  items?: Schema
  properties?: Record<string, Schema>
  anyOf?: Schema[]
}

const BY_FORMAT: Record<string, string> = {
  uuid: '01936d0e-5f2a-7c41-9b3e-2f6a8d4c1e70',
  'date-time': '2026-11-21T10:00:00.000Z',
  date: '2026-11-21',
  email: 'ada@acme.example',
}

/** A value that the schema accepts: what it says of itself first, then its type. */
export function exampleOf(schema: Schema): unknown {
  const said = schema.examples?.[0] ?? schema.default ?? schema.const ?? schema.enum?.[0]
  if (said !== undefined) return said
  if (schema.anyOf) return exampleOf(schema.anyOf[0]!)
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type
  if (type === 'object') return Object.fromEntries(Object.entries(schema.properties ?? {}).map(([name, part]) => [name, exampleOf(part)]))
  if (type === 'array') return schema.items ? [exampleOf(schema.items)] : []
  if (type === 'string') return BY_FORMAT[schema.format ?? ''] ?? 'text'.padEnd(schema.minLength ?? 0, ' text')
  if (type === 'integer' || type === 'number') return schema.minimum ?? 1
  return type === 'boolean' ? true : null
}
