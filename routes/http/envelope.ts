// The contract's envelopes as schemas, and the answers every route may give.
import { type TProperties, type TSchema, Type } from 'typebox'
import { type Detail, errorTable } from '../../domain/kernel/index.ts'

const ErrorBody = Type.Object(
  {
    error: Type.Object({ code: Type.String(), message: Type.String(), details: Type.Object({}, { additionalProperties: true }) }),
    detail: Type.String(),
    correlation_id: Type.String(),
  },
  { description: 'See docs/errors.md for every detail code.' },
)

export const ok = (data: TSchema, extra: TProperties = {}) => Type.Object({ data, ...extra })

export const Pagination = Type.Object({
  limit: Type.Integer(),
  next_cursor: Type.Union([Type.String(), Type.Null()]),
  total: Type.Optional(Type.Integer()),
})

/** Error responses by status, described with the detail codes that can occur. */
export function errors(...details: Detail[]): Record<string, TSchema> {
  const byStatus = new Map<number, Detail[]>()
  for (const detail of details) {
    const { status } = errorTable[detail]
    byStatus.set(status, [...(byStatus.get(status) ?? []), detail])
  }
  return Object.fromEntries(
    [...byStatus].map(([status, list]) => [
      String(status),
      { ...ErrorBody, description: list.map((d) => `\`${d}\``).join(', ') } as TSchema,
    ]),
  )
}

/** What the plugins may answer before a route that needs a session is reached. */
const GATE: Detail[] = [
  'missing_token',
  'invalid_token',
  'token_expired',
  'session_revoked',
  'tenant_mismatch',
  'permission_denied',
  'address_forbidden',
  'mfa_enrollment_required',
  'step_up_required',
  'blocked',
  'context_required',
  'context_forbidden',
  'module_unavailable',
  'plan_limit',
  'tenant_not_found',
  'rate_limited',
  'internal',
  'database_unavailable',
  'overloaded',
]
const BODY: Detail[] = [
  'invalid_body',
  'invalid_json',
  'body_too_large',
  'unsupported_media_type',
  'read_only',
  'origin_forbidden',
  'idempotency_key_reused',
]

export const guarded = (...details: Detail[]) => errors(...GATE, 'invalid_params', 'invalid_query', ...details)
export const mutation = (...details: Detail[]) => errors(...GATE, ...BODY, 'invalid_params', 'invalid_value', 'invalid_headers', ...details)
export const open = (...details: Detail[]) =>
  errors('tenant_not_found', 'rate_limited', 'internal', 'database_unavailable', 'overloaded', ...BODY.slice(0, 4), ...details)
