// The scalar types of the contract. Formats are checked by regular expression, so they mean the same in TypeBox, OpenAPI and clients.
import { type Static, type TSchema, type TSchemaOptions, Type } from 'typebox'

export const Uuid = Type.String({ format: 'uuid', description: 'UUIDv7' })
/** A moment. Leap seconds are refused: JavaScript reads them as no time at all. */
export const Timestamp = Type.String({ format: 'date-time', pattern: '^(?!.*:60)', description: 'RFC 3339, UTC' })
export const DateOnly = Type.String({ format: 'date', description: 'YYYY-MM-DD' })
/** Money in its currency's unit, up to four decimals. */
export const Money = Type.String({
  pattern: '^-?\\d{1,15}(\\.\\d{1,4})?$',
  'x-pg': 'numeric',
  description: 'Decimal string, up to 4 decimals',
  examples: ['12.50'],
})
/** Zero or more money. */
export const Price = Type.String({
  pattern: '^\\d{1,15}(\\.\\d{1,4})?$',
  'x-pg': 'numeric',
  description: 'Decimal string, zero or more, up to 4 decimals',
  examples: ['12.50'],
})
export const SignedQuantity = Type.String({
  pattern: '^-?\\d{1,13}(\\.\\d{1,6})?$',
  'x-pg': 'numeric',
  description: 'Decimal string, up to 6 decimals',
  examples: ['10'],
})
/** A quantity in the unit named beside it, zero or more. */
export const Quantity = Type.String({
  pattern: '^\\d{1,13}(\\.\\d{1,6})?$',
  'x-pg': 'numeric',
  description: 'Decimal string, zero or more, up to 6 decimals',
  examples: ['10'],
})
/** A quantity above zero. */
export const PositiveQuantity = Type.String({
  pattern: '^(?=.*[1-9])\\d{1,13}(\\.\\d{1,6})?$',
  description: 'Decimal string above zero, up to 6 decimals',
  examples: ['10'],
})
export const Currency = Type.String({ pattern: '^[A-Z]{3}$', description: 'ISO 4217 code', examples: ['EUR'] })
export const Code = Type.String({
  minLength: 1,
  maxLength: 64,
  pattern: '^[A-Za-z0-9][A-Za-z0-9._/-]*$',
  description: 'Letters, digits, . _ / -',
  examples: ['TOM-CH-500'],
})
export const Name = Type.String({ minLength: 1, maxLength: 200, examples: ['Cherry tomatoes, 500 g'] })
export const Text = Type.String({ maxLength: 2000, examples: ['Deliver before noon'] })
export const Version = Type.Integer({ minimum: 1, description: 'Sent as ETag; needed to change the record' })

/**
 * A value or null, as `type: [T, 'null']` and not as a union: the serializer generates a comparison for the
 * first and calls a schema validator for the second.
 */
export function nullable<T extends TSchema>(schema: T) {
  const { type, enum: values, ...rest } = schema as { type?: string; enum?: unknown[] }
  return Type.Unsafe<Static<T> | null>({ ...rest, type: [type, 'null'], ...(values ? { enum: [...values, null] } : {}) })
}

/** Whether a schema lets null pass. */
export const isNullable = (schema: object): boolean => 'type' in schema && Array.isArray(schema.type) && schema.type.includes('null')
export const oneOf = <const T extends string>(values: readonly T[], options?: TSchemaOptions) =>
  Type.Unsafe<T>({ type: 'string', enum: [...values], ...options })

/** What stands in `custom`: an open object, because each company has its own fields; `GET /custom-fields` describes them. */
export const Custom = Type.Record(Type.String({ maxLength: 40 }), Type.Unknown(), {
  default: {},
  maxProperties: 200,
  description: 'The company’s own fields, see GET /custom-fields',
  examples: [{}],
})
