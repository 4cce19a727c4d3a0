// A company asks for a tenant; the platform's staff decides.
import { type Static, Type } from 'typebox'
import { administratorIds } from '../access/index.ts'
import {
  type Database,
  failure,
  Name,
  networkOf,
  newId,
  nullable,
  oneOf,
  type Queries,
  sql,
  systemScope,
  Timestamp,
  type Tx,
  Uuid,
} from '../kernel/index.ts'
import { recordDecision } from './decisions.ts'
import { assignHome, offerPlan } from './provision.ts'
import { lockTenant, type Tenant } from './tenant.ts'

/** Host names that are ours, or that would pass for ours. */
const RESERVED = new Set(
  (
    'account admin administrator api app assets auth autoconfig autodiscover billing blog broker cdn control console dashboard demo dev dns docs ' +
    'email erp ftp gateway grafana health help host imap internal kafka localhost localdomain login mail metrics monitoring mta-sts mx ns ns1 ns2 ' +
    'ns3 ns4 oauth ops platform pop pop3 portal postgres postmaster proxy public redis register root secure security server shop signup smtp sso ' +
    'staff staging static stats status superadmin support sysadmin system telemetry tenant tenantry test vpn web webhook webhooks webmail wpad www'
  ).split(' '),
)
/** ISO 4217, as the runtime knows it. */
const CURRENCIES = new Set(Intl.supportedValuesOf('currency'))
/** Control characters, and those that turn the direction of what follows: they would stand in a mail's subject. */
const UNPRINTABLE = /[\p{Cc}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/u
/** How long what is known of an applicant is kept after the decision. */
const KEEP_APPLICANT_DAYS = 90

/** Whether a slug is kept for the platform. */
const isReserved = (slug: string): boolean => RESERVED.has(slug)

/** Throws `invalid_value` for a host name that nobody may choose, and for names that would forge a mail. */
export function checkNames({ slug, ...names }: { slug: string } & Record<string, string>): void {
  if (isReserved(slug))
    throw failure('invalid_value', { path: '/slug', rule: 'reserved', message: 'is kept for the platform: choose another' })
  for (const [field, value] of Object.entries(names)) {
    if (UNPRINTABLE.test(value))
      throw failure('invalid_value', {
        path: `/${field}`,
        rule: 'printable',
        message: 'has a control character or one that turns the direction of text',
      })
  }
}
/** Requests that wait for a decision, at most: of one person, and from one network in a day. */
const MAX_WAITING = 3
const MAX_A_DAY = 10

export const Slug = Type.String({
  pattern: '^[a-z][a-z0-9]*(-[a-z0-9]+)*$',
  minLength: 3,
  maxLength: 40,
  description: 'The host name: small letters, digits and single hyphens',
  examples: ['flora'],
})

export const Registration = Type.Object(
  {
    slug: Slug,
    name: Name,
    email: Type.String({ minLength: 3, maxLength: 254, description: 'Of who becomes the administrator', examples: ['ana@flora.example'] }),
    person: Name,
    plan: Type.String({ maxLength: 64, examples: ['professional'] }),
    locale: Type.Optional(oneOf(['en', 'es', 'pt', 'tr', 'az'])),
    currency: Type.Optional(Type.String({ pattern: '^[A-Z]{3}$', examples: ['EUR'] })),
  },
  { additionalProperties: false },
)

const Count = Type.Object({ waiting: Type.Integer(), today: Type.Integer() }, { additionalProperties: false })

/**
 * Keeps a request for a tenant: the tenant is there, pending, and answers nobody. Returns its id, by which progress is
 * asked. Throws `already_exists` for a slug that is taken, `invalid_value` for one that is reserved and for a currency that
 * is none, `invalid_reference` for a plan that is not there or not listed, `rate_limited` for too many. Staff who may decide
 * is told by mail.
 * @param email canonical
 */
export async function register(
  control: Database,
  { slug, name, email, person, plan, locale = 'en', currency = 'EUR' }: Static<typeof Registration>,
  address: string,
  correlationId: string,
): Promise<string> {
  checkNames({ slug, name, person })
  if (!CURRENCIES.has(currency))
    throw failure('invalid_value', { path: '/currency', rule: 'iso_4217', message: 'is no currency of ISO 4217' })
  const id = newId()
  const approvers = await approversOf(control, correlationId)
  await control.write(systemScope(id, 'registration', correlationId), async (tx) => {
    const { waiting, today } = await tx.one(sql.prepared(Count)`
      select waiting, today from plane.count_registrations(${email}, ${networkOf(address)}::inet)`)
    if (waiting >= MAX_WAITING || today >= MAX_A_DAY) throw failure('rate_limited', { retry_after_seconds: 86_400 })
    if (!(await tx.exists(sql.run`select 1 from platform_plans where code = ${plan} and listed`)))
      throw failure('invalid_reference', { path: '/plan' })
    // Two who want one name at once: the unique index lets one have it.
    await tx.query(sql.run`
      insert into tenants (id, slug, name, status, locale, currency) values (${id}, ${slug}, ${name}, 'pending', ${locale}, ${currency})`)
    await assignHome(tx, 'shared', 'main')
    await tx.query(sql.run`
      insert into tenant_registrations (id, tenant_id, email, person, address, plan, requested_plan)
      values (${newId()}, ${tx.tenantId}, ${email}, ${person}, ${address}::inet, ${plan}, ${plan})`)
    for (const { tenant_id, user_id } of approvers)
      tx.enqueue({
        queue: 'mail',
        data: { kind: 'registration_received', tenant_id, user_id, facts: { company: name, slug, person, plan } },
      })
    tx.emit({ type: 'platform.tenant.registered', entity_id: id, version: 1, data: { slug, plan } })
  })
  return id
}

const Approver = Type.Object({ tenant_id: Uuid, user_id: Uuid }, { additionalProperties: false })

/** The platform's administrators, who are told of a registration. */
async function approversOf(control: Database, correlationId: string): Promise<Static<typeof Approver>[]> {
  const platform = await control.platform((queries) =>
    queries.maybeOne(sql.prepared(Found)`select id from tenants where kind = 'platform' and status = 'active' order by created_at limit 1`),
  )
  if (!platform) return []
  const ids = await control.read(systemScope(platform.id, 'registration', correlationId), administratorIds)
  return ids.map((user_id) => ({ tenant_id: platform.id, user_id }))
}
const Found = Type.Object({ id: Uuid }, { additionalProperties: false })

export const Decision = Type.Object(
  {
    mode: Type.Optional(oneOf(['shared', 'schema', 'database'], { description: 'Where it will live; shared when omitted' })),
    catalog_key: Type.Optional(Type.String({ maxLength: 64, description: 'Which server of the catalog; main when omitted' })),
    plan: Type.Optional(Type.String({ maxLength: 64, description: 'Another plan than the one that was requested' })),
    reason: Type.Optional(Type.String({ minLength: 3, maxLength: 500, description: 'Kept with the decision' })),
  },
  { additionalProperties: false },
)

const Waiting = Type.Object(
  {
    decision: nullable(Type.String()),
    plan: Type.String(),
    status: Type.Unsafe<Tenant['status']>(Type.String()),
    mode: Type.Unsafe<Tenant['mode']>(Type.String()),
    catalog_key: Type.String(),
    done: Type.Array(Type.String()),
  },
  { additionalProperties: false },
)

/** The registration with its tenant, locked: decisions and the steps of provisioning come one after the other. */
async function lockWaiting(tx: Tx): Promise<Static<typeof Waiting>> {
  await lockTenant(tx)
  const found = await tx.maybeOne(sql.prepared(Waiting)`
    select r.decision, r.plan, t.status, p.mode, p.catalog_key,
      array(select s.step from tenant_provisioning_steps s where s.tenant_id = t.id and s.state = 'done') as done
    from tenant_registrations r join tenants t on t.id = r.tenant_id join tenant_connection_profiles p on p.tenant_id = t.id
    where r.tenant_id = ${tx.tenantId} for update of r`)
  if (!found) throw failure('not_found')
  return found
}

/**
 * Approves a request: the tenant will be made, step by step, by a job that is there when this commits. Approving again
 * what is not made yet begins the job again, and corrects the decision as far as it was not carried out: the plan until the
 * tenant is open, the place until it was made there. Throws `not_found`, `invalid_transition` for one that was rejected or
 * closed, and for a correction that comes too late, `invalid_reference` for a plan or catalog key that is not there.
 */
export async function approve(
  tx: Tx,
  { mode, catalog_key, plan, reason }: Static<typeof Decision>,
  catalog: ReadonlySet<string>,
  staffId: string | null,
): Promise<void> {
  if (catalog_key !== undefined && !catalog.has(catalog_key))
    throw failure('invalid_reference', { path: '/catalog_key', known: [...catalog] })
  const before = await lockWaiting(tx)
  if (before.decision === 'rejected' || before.status === 'closed')
    throw failure('invalid_transition', { status: before.decision === 'rejected' ? 'rejected' : 'closed', transition: 'approve' })
  const isFirst = before.decision === null
  // Before the first decision the registration has a place of its own, which nobody chose.
  const to = { mode: mode ?? (isFirst ? 'shared' : before.mode), catalog_key: catalog_key ?? (isFirst ? 'main' : before.catalog_key) }
  const isElsewhere = to.mode !== before.mode || to.catalog_key !== before.catalog_key
  const newPlan = plan ?? before.plan
  const tooLate = (what: string) => failure('invalid_transition', { status: before.status, transition: 'approve', done: what })
  if (before.status !== 'pending') {
    if (isElsewhere || newPlan !== before.plan) throw tooLate('activation')
    return
  }
  if (isElsewhere && before.done.includes('storage')) throw tooLate('storage')
  const now = tx.now.toISOString()
  if (isFirst || newPlan !== before.plan) {
    await tx.query(sql.run`
      update tenant_registrations set decision = 'approved', plan = ${newPlan}, decided_by = ${staffId}, decided_at = ${now}, version = version + 1, updated_at = ${now}
      where tenant_id = ${tx.tenantId}`)
    if (before.done.includes('plan')) await offerPlan(tx, newPlan, 'trial')
  }
  if (isFirst || isElsewhere) await assignHome(tx, to.mode, to.catalog_key)
  if (isFirst) {
    await tx.query(sql.run`update tenants set approved_at = ${now}, version = version + 1, updated_at = ${now} where id = ${tx.tenantId}`)
    tx.emit({ type: 'platform.tenant.approved', entity_id: tx.tenantId, version: 1, data: to })
  }
  await recordDecision(tx, 'platform.tenant.approved', { ...to, plan: newPlan, ...(reason ? { reason } : {}) })
  tx.enqueue({ queue: 'provision', data: { tenant_id: tx.tenantId } })
}

/**
 * Refuses a request, or gives up one that was approved and cannot be made; the name is free again, the applicant is told by
 * mail, and what was made of it is removed. Throws `not_found`, `invalid_transition` once the tenant is open.
 */
export async function reject(tx: Tx, reason: string, staffId: string | null): Promise<void> {
  const { decision, status, mode } = await lockWaiting(tx)
  if (decision === 'rejected' || status !== 'pending')
    throw failure('invalid_transition', { status: decision === 'rejected' ? decision : status, transition: 'reject' })
  const now = tx.now.toISOString()
  await tx.query(sql.run`
    update tenant_registrations set decision = 'rejected', reason = ${reason}, decided_by = ${staffId}, decided_at = ${now},
      version = version + 1, updated_at = ${now} where tenant_id = ${tx.tenantId}`)
  await tx.query(sql.run`
    update tenants set status = 'closed', closed_at = ${now}, slug = left(slug, 20) || '-' || right(replace(id::text, '-', ''), 12), version = version + 1, updated_at = ${now}
    where id = ${tx.tenantId}`)
  await recordDecision(tx, 'platform.tenant.rejected', { reason })
  tx.enqueue({ queue: 'mail', data: { kind: 'registration_rejected', tenant_id: tx.tenantId, user_id: null, facts: { reason } } })
  if (decision === 'approved' && mode !== 'shared') tx.enqueue({ queue: 'provision', data: { tenant_id: tx.tenantId } })
  tx.emit({ type: 'platform.tenant.rejected', entity_id: tx.tenantId, version: 1, data: { reason } })
}

export const RegistrationRecord = Type.Object(
  {
    email: nullable(Type.String({ description: 'Erased with name and address 90 days after the decision' })),
    person: nullable(Type.String()),
    address: nullable(Type.String({ description: 'The network address that it was asked from' })),
    requested_plan: Type.String(),
    plan: Type.String({ description: 'That the tenant gets' }),
    decision: nullable(oneOf(['approved', 'rejected'])),
    reason: nullable(Type.String()),
    decided_by: nullable(Uuid),
    decided_at: nullable(Timestamp),
    created_at: Timestamp,
  },
  { additionalProperties: false },
)

/** The registration that a tenant came from; null for one that was made by command. */
export const registrationOf = (tx: Tx): Promise<Static<typeof RegistrationRecord> | null> =>
  tx.maybeOne(sql.prepared(RegistrationRecord)`
    select email, person, host(address) as address, coalesce(requested_plan, plan) as requested_plan, plan, decision, reason, decided_by, decided_at, created_at
    from tenant_registrations where tenant_id = ${tx.tenantId}`)

/** Erases what is known of applicants whose registration was decided long ago. */
export const forgetApplicants = (queries: Queries): Promise<unknown> =>
  queries.query(sql.run`
    update tenant_registrations set email = null, person = null, address = null, version = version + 1, updated_at = now()
    where email is not null and decided_at < now() - make_interval(days => ${KEEP_APPLICANT_DAYS})`)

export const STEPS = ['storage', 'plan', 'roles', 'organization', 'administrator', 'activation'] as const
export type Step = (typeof STEPS)[number]

export const Progress = Type.Object(
  {
    id: Uuid,
    slug: Type.String(),
    status: oneOf(['pending', 'provisioning', 'active', 'rejected', 'closed', 'suspended']),
    steps: Type.Array(
      Type.Object({
        step: Type.String(),
        state: oneOf(['waiting', 'done', 'failed']),
        attempts: Type.Integer(),
        error: nullable(Type.String()),
        at: nullable(Timestamp),
      }),
    ),
  },
  { additionalProperties: false },
)
export type Progress = Static<typeof Progress>

const StepRow = Type.Object(
  { step: Type.String(), state: oneOf(['done', 'failed']), attempts: Type.Integer(), error: nullable(Type.String()), at: Timestamp },
  { additionalProperties: false },
)
const Asked = Type.Object(
  { slug: Type.String(), status: Type.Unsafe<Tenant['status']>(Type.String()), decision: nullable(Type.String()) },
  { additionalProperties: false },
)

/** How far a registration is. Throws `not_found`. */
export async function progressOf(tx: Tx): Promise<Progress> {
  const asked = await tx.maybeOne(sql.prepared(Asked)`
    select t.slug, t.status, r.decision from tenants t join tenant_registrations r on r.tenant_id = t.id where t.id = ${tx.tenantId}`)
  if (!asked) throw failure('not_found')
  const done = await tx.any(sql.prepared(StepRow)`
    select step, state, attempts, error, updated_at as at from tenant_provisioning_steps where tenant_id = ${tx.tenantId}`)
  const { slug, status, decision } = asked
  return {
    id: tx.tenantId,
    slug,
    status: decision === 'rejected' ? 'rejected' : status === 'pending' && decision === 'approved' ? 'provisioning' : status,
    steps: STEPS.map((step) => {
      const found = done.find((row) => row.step === step)
      return { step, state: found?.state ?? 'waiting', attempts: found?.attempts ?? 0, error: found?.error ?? null, at: found?.at ?? null }
    }),
  }
}

const Done = Type.Object({ state: Type.String() }, { additionalProperties: false })

/** Whether a step was done. */
export const isDone = (tx: Tx, step: Step): Promise<boolean> =>
  tx
    .maybeOne(sql.prepared(Done)`select state from tenant_provisioning_steps where tenant_id = ${tx.tenantId} and step = ${step}`)
    .then((found) => found?.state === 'done')

/**
 * Does a step of making a tenant, once: its effect and its mark are one transaction, and the tenant's row makes another
 * who does the same wait and find it done.
 */
export async function doStep(tx: Tx, step: Step, work: () => Promise<unknown>): Promise<void> {
  await lockTenant(tx)
  if (await isDone(tx, step)) return
  await work()
  await markStep(tx, step, 'done', null)
}

export async function markStep(tx: Tx, step: Step, state: 'done' | 'failed', error: string | null): Promise<void> {
  await tx.query(sql.run`
    insert into tenant_provisioning_steps as s (tenant_id, step, position, state, error, updated_at)
    values (${tx.tenantId}, ${step}, ${STEPS.indexOf(step)}, ${state}, ${error}, ${tx.now.toISOString()})
    on conflict (tenant_id, step) do update set state = excluded.state, error = excluded.error, attempts = s.attempts + 1, updated_at = excluded.updated_at
    where s.state <> 'done'`)
}

const Applicant = Type.Object(
  {
    email: nullable(Type.String()),
    person: nullable(Type.String()),
    plan: Type.String(),
    name: Type.String(),
    status: Type.String(),
    decision: oneOf(['approved', 'rejected']),
  },
  { additionalProperties: false },
)
export type Applicant = Static<typeof Applicant>

/** Who asked for the tenant and what for. Throws `not_found` for one that was not decided about. */
export async function applicantOf(tx: Tx): Promise<Applicant> {
  const found = await tx.maybeOne(sql.prepared(Applicant)`
    select r.email, r.person, r.plan, t.name, t.status, r.decision from tenant_registrations r join tenants t on t.id = r.tenant_id
    where r.tenant_id = ${tx.tenantId} and r.decision is not null`)
  if (!found) throw failure('not_found')
  return found
}

const Opened = Type.Object({ trial_days: Type.Integer(), plan: Type.String() }, { additionalProperties: false })

/** Opens the tenant: its trial begins, or, on a plan without a trial, its subscription. */
export async function activate(tx: Tx): Promise<void> {
  const now = tx.now.toISOString()
  const opened = await tx.maybeOne(sql.prepared(Opened)`
    update tenants t set status = 'active', version = t.version + 1, updated_at = ${now},
      trial_ends_at = case when p.trial_days > 0 then ${now}::timestamptz + make_interval(days => p.trial_days) end
    from tenant_registrations r join platform_plans p on p.code = r.plan
    where t.id = ${tx.tenantId} and r.tenant_id = t.id and t.status = 'pending' returning p.trial_days, p.code as plan`)
  if (opened?.trial_days === 0) {
    await tx.query(sql.run`
      insert into billing_subscriptions (id, tenant_id, plan, status) values (${newId()}, ${tx.tenantId}, ${opened.plan}, 'active')`)
    tx.emit({ type: 'platform.tenant.converted', entity_id: tx.tenantId, version: 1, data: { plan: opened.plan } })
  }
  tx.emit({ type: 'platform.tenant.activated', entity_id: tx.tenantId, version: 1, data: {} })
}
