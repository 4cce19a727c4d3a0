// A company asks for a tenant; the platform's staff decides.
import { type Static, Type } from 'typebox'
import {
  type Database,
  failure,
  Name,
  networkOf,
  newId,
  nullable,
  oneOf,
  sql,
  systemScope,
  Timestamp,
  type Tx,
  Uuid,
} from '../kernel/index.ts'
import { assignHome } from './provision.ts'
import { lockTenant, type Tenant } from './tenant.ts'

/** Host names that are ours, or that would pass for ours. */
const RESERVED = new Set(
  'account admin api app assets auth billing blog broker cdn dashboard demo dev docs email ftp grafana help host internal kafka login mail metrics mx ns oauth ops platform postgres public redis register root security shop signup smtp sso staff staging static stats status support sysadmin system tenant tenantry test web webhook webhooks webmail www'.split(
    ' ',
  ),
)
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
 * asked. Throws `already_exists` for a slug that is taken, `invalid_value` for one that is reserved, `invalid_reference`
 * for a plan that is not there, `rate_limited` for too many.
 * @param email canonical
 */
export async function register(
  control: Database,
  { slug, name, email, person, plan, locale = 'en', currency = 'EUR' }: Static<typeof Registration>,
  address: string,
  correlationId: string,
): Promise<string> {
  if (RESERVED.has(slug))
    throw failure('invalid_value', { path: '/slug', rule: 'reserved', message: 'is kept for the platform: choose another' })
  const id = newId()
  await control.write(systemScope(id, 'registration', correlationId), async (tx) => {
    const { waiting, today } = await tx.one(sql.prepared(Count)`
      select waiting, today from plane.count_registrations(${email}, ${networkOf(address)}::inet)`)
    if (waiting >= MAX_WAITING || today >= MAX_A_DAY) throw failure('rate_limited', { retry_after_seconds: 86_400 })
    // Two who want one name at once: the unique index lets one have it.
    await tx.query(sql.run`
      insert into tenants (id, slug, name, status, locale, currency) values (${id}, ${slug}, ${name}, 'pending', ${locale}, ${currency})`)
    await assignHome(tx, 'shared', 'main')
    await tx.query(sql.run`
      insert into tenant_registrations (id, tenant_id, email, person, address, plan)
      values (${newId()}, ${tx.tenantId}, ${email}, ${person}, ${address}::inet, ${plan})`)
    tx.emit({ type: 'platform.tenant.registered', entity_id: id, version: 1, data: { slug, plan } })
  })
  return id
}

export const Decision = Type.Object(
  {
    mode: Type.Optional(oneOf(['shared', 'schema', 'database'], { description: 'Where it will live; shared when nothing is said' })),
    catalog_key: Type.Optional(Type.String({ maxLength: 64, description: 'Which server of the catalog; main when nothing is said' })),
    plan: Type.Optional(Type.String({ maxLength: 64, description: 'Another plan than the one that was asked for' })),
  },
  { additionalProperties: false },
)
const Waiting = Type.Object({ decision: nullable(Type.String()), plan: Type.String() }, { additionalProperties: false })

async function lockWaiting(tx: Tx): Promise<Static<typeof Waiting>> {
  const found = await tx.maybeOne(sql.prepared(Waiting)`
    select decision, plan from tenant_registrations where tenant_id = ${tx.tenantId} for update`)
  if (!found) throw failure('not_found')
  return found
}

/**
 * Approves a request: the tenant will be made, step by step, by a job that is there when this commits. Approving again
 * what is approved begins the job again and changes nothing else. Throws `not_found`, `invalid_transition` for one that
 * was rejected, `invalid_reference` for a plan or catalog key that is not there.
 */
export async function approve(
  tx: Tx,
  { mode = 'shared', catalog_key = 'main', plan }: Static<typeof Decision>,
  catalog: ReadonlySet<string>,
  staffId: string | null,
): Promise<void> {
  if (!catalog.has(catalog_key)) throw failure('invalid_reference', { path: '/catalog_key', known: [...catalog] })
  const { decision, plan: asked } = await lockWaiting(tx)
  if (decision === 'rejected') throw failure('invalid_transition', { status: decision, transition: 'approve' })
  if (decision === null) {
    const now = tx.now.toISOString()
    await tx.query(sql.run`
      update tenant_registrations set decision = 'approved', plan = ${plan ?? asked}, decided_by = ${staffId}, decided_at = ${now}, version = version + 1, updated_at = ${now}
      where tenant_id = ${tx.tenantId}`)
    await tx.query(sql.run`update tenants set approved_at = ${now}, version = version + 1, updated_at = ${now} where id = ${tx.tenantId}`)
    await assignHome(tx, mode, catalog_key)
    tx.emit({ type: 'platform.tenant.approved', entity_id: tx.tenantId, version: 1, data: { mode, catalog_key } })
  }
  tx.enqueue({ queue: 'provision', data: { tenant_id: tx.tenantId } })
}

/** Refuses a request; the name is free again, and who asked is forgotten. Throws `not_found`, `invalid_transition`. */
export async function reject(tx: Tx, reason: string, staffId: string | null): Promise<void> {
  const { decision } = await lockWaiting(tx)
  if (decision !== null) throw failure('invalid_transition', { status: decision, transition: 'reject' })
  const now = tx.now.toISOString()
  await tx.query(sql.run`
    update tenant_registrations set decision = 'rejected', reason = ${reason}, decided_by = ${staffId}, decided_at = ${now}, email = null, person = null, address = null,
      version = version + 1, updated_at = ${now} where tenant_id = ${tx.tenantId}`)
  await tx.query(sql.run`
    update tenants set status = 'closed', closed_at = ${now}, slug = left(slug, 20) || '-' || right(replace(id::text, '-', ''), 12), version = version + 1, updated_at = ${now}
    where id = ${tx.tenantId}`)
  tx.emit({ type: 'platform.tenant.rejected', entity_id: tx.tenantId, version: 1, data: { reason } })
}

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
  { email: nullable(Type.String()), person: nullable(Type.String()), plan: Type.String(), name: Type.String(), status: Type.String() },
  { additionalProperties: false },
)
export type Applicant = Static<typeof Applicant>

/** Who asked for the tenant and what for. Throws `not_found` for one that was not approved. */
export async function applicantOf(tx: Tx): Promise<Applicant> {
  const found = await tx.maybeOne(sql.prepared(Applicant)`
    select r.email, r.person, r.plan, t.name, t.status from tenant_registrations r join tenants t on t.id = r.tenant_id
    where r.tenant_id = ${tx.tenantId} and r.decision = 'approved'`)
  if (!found) throw failure('not_found')
  return found
}

/** Opens the tenant: its trial begins, and what is known of who asked is his account's from now on. */
export async function activate(tx: Tx): Promise<void> {
  const now = tx.now.toISOString()
  await tx.query(sql.run`
    update tenants t set status = 'active', trial_ends_at = ${now}::timestamptz + make_interval(days => p.trial_days), version = t.version + 1, updated_at = ${now}
    from tenant_registrations r join platform_plans p on p.code = r.plan
    where t.id = ${tx.tenantId} and r.tenant_id = t.id and t.status = 'pending'`)
  await tx.query(sql.run`
    update tenant_registrations set email = null, person = null, address = null, version = version + 1, updated_at = ${now} where tenant_id = ${tx.tenantId}`)
  tx.emit({ type: 'platform.tenant.activated', entity_id: tx.tenantId, version: 1, data: {} })
}
