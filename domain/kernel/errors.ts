// Every refusal that the product can answer. Adding one is adding a row.

interface Entry {
  status: number
  code: 'VALIDATION' | 'AUTHN' | 'AUTHZ' | 'NOT_FOUND' | 'CONFLICT' | 'RATE_LIMIT' | 'INTERNAL'
  message: string
}

const entry = (status: number, code: Entry['code'], message: string): Entry => ({ status, code, message })

export const errorTable = {
  invalid_body: entry(400, 'VALIDATION', 'The body does not fit the schema: see details for each field.'),
  invalid_query: entry(400, 'VALIDATION', 'The query does not fit the schema: see details for each parameter.'),
  invalid_params: entry(400, 'VALIDATION', 'A part of the path has the wrong form: ids are UUIDs.'),
  invalid_headers: entry(400, 'VALIDATION', 'A header has the wrong form: see details.'),
  invalid_cursor: entry(400, 'VALIDATION', 'This cursor is not valid for this list: start again without one.'),
  malformed_request: entry(400, 'VALIDATION', 'This is not a valid HTTP request.'),
  invalid_json: entry(400, 'VALIDATION', 'The body is not valid JSON.'),
  version_required: entry(400, 'VALIDATION', 'Send If-Match with the ETag that you read, or version in the body.'),
  invalid_reference: entry(400, 'VALIDATION', 'The body names something that does not exist here: see details.'),
  invalid_value: entry(400, 'VALIDATION', 'A value is outside what is allowed: see details.'),
  invalid_link: entry(400, 'VALIDATION', 'This link was used, replaced or has expired: ask for a new one.'),
  weak_password: entry(400, 'VALIDATION', 'This password is guessed too easily: see details.'),
  missing_token: entry(401, 'AUTHN', 'Sign in first: send the session cookie or an Authorization header.'),
  invalid_token: entry(401, 'AUTHN', 'This token is not valid: sign in again.'),
  token_expired: entry(401, 'AUTHN', 'This token has expired: refresh it or sign in again.'),
  invalid_credentials: entry(401, 'AUTHN', 'Email and password do not match.'),
  mfa_required: entry(401, 'AUTHN', 'A second factor is needed: send details.challenge with a code to POST /api/v1/auth/mfa.'),
  invalid_code: entry(401, 'AUTHN', 'This code is wrong or was used: send the next one.'),
  invalid_challenge: entry(401, 'AUTHN', 'This challenge has ended: begin again.'),
  invalid_passkey: entry(401, 'AUTHN', 'This passkey was not accepted: try again, or another way.'),
  sso_required: entry(401, 'AUTHN', 'People of this domain sign in through their company: open details.start.'),
  sso_failed: entry(401, 'AUTHN', 'Your company’s sign-in did not vouch for you: see details.'),
  sso_link_required: entry(
    401,
    'AUTHN',
    'Confirm the link to your company’s sign-in first: sign in another way and POST details.links/{id}/confirm, or ask an administrator.',
  ),
  sso_link_suspended: entry(
    401,
    'AUTHN',
    'The link to your company’s sign-in is suspended: sign in another way and POST details.links/{id}/confirm, or ask an administrator.',
  ),
  session_revoked: entry(401, 'AUTHN', 'This session has ended: sign in again.'),
  tenant_mismatch: entry(401, 'AUTHN', 'This token belongs to another tenant than this host.'),
  permission_denied: entry(403, 'AUTHZ', 'You lack the permission for this: GET /api/v1/rbac/explain says why.'),
  read_only: entry(403, 'AUTHZ', 'This tenant is read-only now.'),
  blocked: entry(403, 'AUTHZ', 'Access to this tenant is blocked now.'),
  context_required: entry(403, 'AUTHZ', 'Choose an organization and workspace first: POST /api/v1/context/switch.'),
  context_forbidden: entry(403, 'AUTHZ', 'You have no role in this organization or workspace.'),
  module_unavailable: entry(
    403,
    'AUTHZ',
    'The plan of this tenant does not include this module: GET /api/v1/module-registry says which does.',
  ),
  plan_limit: entry(403, 'AUTHZ', 'The plan of this tenant allows no more of these.'),
  session_required: entry(403, 'AUTHZ', 'This takes a signed-in person: an API key cannot do it.'),
  mfa_enrollment_required: entry(403, 'AUTHZ', 'Your company asks for a second factor: POST /api/v1/auth/mfa/enroll adds one.'),
  step_up_required: entry(403, 'AUTHZ', 'Prove again who you are: POST /api/v1/auth/step-up with password or code.'),
  impersonation_read_only: entry(
    403,
    'AUTHZ',
    'Platform staff reads only: the tenant can consent to changes with POST /api/v1/tenant/support-consents.',
  ),
  impersonation_forbidden: entry(403, 'AUTHZ', 'Platform staff in a user’s place cannot do this: ask the user.'),
  address_forbidden: entry(403, 'AUTHZ', 'This API key is not used from this address.'),
  grant_exceeds: entry(403, 'AUTHZ', 'You can give, take or change only what you hold yourself in the same scope: see details.'),
  origin_forbidden: entry(403, 'AUTHZ', 'Requests with a cookie must come from an origin of this tenant.'),
  self_approval: entry(403, 'AUTHZ', 'You requested, edited or submitted this, so another user must approve it.'),
  approval_limit: entry(403, 'AUTHZ', 'The amount is above your approval limit: ask someone with a higher one.'),
  not_found: entry(404, 'NOT_FOUND', 'There is nothing here with this id.'),
  tenant_not_found: entry(404, 'NOT_FOUND', 'No tenant answers to this host name.'),
  route_not_found: entry(404, 'NOT_FOUND', 'There is no such endpoint: see /docs.'),
  version_conflict: entry(409, 'CONFLICT', 'This was changed by someone else: read details.current and try again.'),
  already_exists: entry(409, 'CONFLICT', 'Something with these values exists already: see details.'),
  invalid_transition: entry(409, 'CONFLICT', 'The document is not in a state that allows this.'),
  insufficient_stock: entry(409, 'CONFLICT', 'There is not enough free stock.'),
  period_closed: entry(409, 'CONFLICT', 'This moment lies in a period that is closed: choose a later one, or have it opened.'),
  too_far_back: entry(409, 'CONFLICT', 'Too much has happened since: choose a later moment, see details.'),
  exchange_rate_missing: entry(
    409,
    'CONFLICT',
    'The order is in a currency without an exchange rate: add one with POST /api/v1/erp/exchange-rates.',
  ),
  over_receipt: entry(409, 'CONFLICT', 'More would be received than was ordered and tolerated.'),
  idempotency_key_reused: entry(409, 'CONFLICT', 'This Idempotency-Key was used with another request: choose a new one.'),
  last_administrator: entry(409, 'CONFLICT', 'Somebody must be able to manage this tenant: make another administrator first.'),
  sso_not_linked: entry(
    409,
    'CONFLICT',
    'Sign in through this provider and confirm your own link before it is enforced for your domain: see details.',
  ),
  own_account: entry(409, 'CONFLICT', 'This is not done to one’s own account: ask another administrator.'),
  dependency_cycle: entry(409, 'CONFLICT', 'These modules would need one another in a ring: see details.'),
  module_requires: entry(409, 'CONFLICT', 'This module does not work without others: add those first, see details.'),
  in_use: entry(409, 'CONFLICT', 'Other records still need this one: see details.'),
  file_infected: entry(409, 'CONFLICT', 'The scanner found something harmful in this file: it is kept from everybody.'),
  range_not_satisfiable: entry(416, 'VALIDATION', 'The file has no such bytes: details.size says how many it has.'),
  body_too_large: entry(413, 'VALIDATION', 'The body is larger than this endpoint accepts.'),
  unsupported_media_type: entry(415, 'VALIDATION', 'Send application/json.'),
  file_type_not_allowed: entry(415, 'VALIDATION', 'Files of this type are not taken: details.allowed says which are.'),
  request_timeout: entry(408, 'VALIDATION', 'The request took too long to arrive: send it again.'),
  headers_too_large: entry(431, 'VALIDATION', 'The headers of the request are larger than the server accepts.'),
  rate_limited: entry(429, 'RATE_LIMIT', 'Too many requests: wait for Retry-After seconds.'),
  internal: entry(500, 'INTERNAL', 'Something went wrong here; the correlation id finds it in our log.'),
  database_unavailable: entry(503, 'INTERNAL', 'The database cannot be reached now: try again shortly.'),
  broker_unavailable: entry(503, 'INTERNAL', 'The message broker cannot be reached now: try again shortly.'),
  file_store_unavailable: entry(503, 'INTERNAL', 'Files cannot be stored now, and nothing of this one was kept: try again shortly.'),
  scanner_unavailable: entry(
    503,
    'INTERNAL',
    'The scanner cannot be reached now, and nothing is served before it has seen it: try again shortly.',
  ),
  overloaded: entry(503, 'INTERNAL', 'The server is busy: try again shortly.'),
  tenant_migrating: entry(503, 'INTERNAL', 'This tenant is being upgraded or moved: try again shortly.'),
} as const satisfies Record<string, Entry>

export type Detail = keyof typeof errorTable

/** A refusal. `details` is shown to the caller; never put a secret, SQL or another tenant's data there. */
export class Failure extends Error {
  readonly detail: Detail
  readonly details: Record<string, unknown>

  constructor(detail: Detail, details: Record<string, unknown> = {}, message: string = errorTable[detail].message) {
    super(message)
    this.name = 'Failure'
    this.detail = detail
    this.details = details
  }

  get status(): number {
    return errorTable[this.detail].status
  }

  /** The body of the contract's error answer. */
  envelope(correlationId: string) {
    return {
      error: { code: errorTable[this.detail].code, message: this.message, details: this.details },
      detail: this.detail,
      correlation_id: correlationId,
    }
  }
}

/** Makes a refusal to throw: `throw failure('insufficient_stock', { product_id })`. */
export const failure = (detail: Detail, details?: Record<string, unknown>, message?: string): Failure =>
  new Failure(detail, details, message)
