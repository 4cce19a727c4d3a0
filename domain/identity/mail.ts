// Mails to users: written at the moment they are sent, so that the secret in a link exists nowhere before.
import { type Static, Type } from 'typebox'
import { nullable, sql, type Tx } from '../kernel/index.ts'
import { type AlertMailKind, type MailKind, mailTexts } from './mail-texts.ts'
import { endTokens, issueToken, type Purpose } from './one-time-tokens.ts'
import { LOCALES } from './user.ts'

export { type AlertMailKind, type MailKind, mailTexts } from './mail-texts.ts'

/** What waits in the queue `mail`: who and what about, no text and no secret. */
export interface MailJob {
  kind: MailKind
  tenant_id: string
  /** Null where a link of an account that does not exist was asked for: nothing is sent. Mails about alerts go to `facts.to` then. */
  user_id: string | null
  /** When a link was asked for; links that were withdrawn since are not made. */
  asked_at?: string
  facts?: Record<string, string>
}

export interface Mail {
  kind: MailKind
  to: string
  subject: string
  text: string
  html: string
}

/** Where links of a kind lead, and what they carry. */
const LINKS: Partial<Record<MailKind, { purpose: Purpose; path: string }>> = {
  invitation: { purpose: 'invitation', path: '/invitation' },
  password_reset: { purpose: 'password_reset', path: '/password-reset' },
  email_verification: { purpose: 'email_verification', path: '/email-verification' },
}

/** What somebody else may have done in the reader's name. */
const ALARMING = new Set<MailKind>(['password_changed', 'email_changed', 'new_device', 'mfa_changed', 'sso_linked'])

const ALERTS: readonly MailKind[] = ['alert_raised', 'alert_repeated', 'alert_escalated', 'alert_cleared'] satisfies AlertMailKind[]

const Recipient = Type.Object(
  {
    email: Type.String(),
    name: Type.String(),
    locale: Type.String(),
    timezone: Type.String(),
    tenant: Type.String(),
    slug: Type.String(),
    domain: nullable(Type.String()),
  },
  { additionalProperties: false },
)
type Recipient = Static<typeof Recipient>

const fill = (text: string, facts: Record<string, string>) => text.replace(/\{(\w+)\}/g, (_, name: string) => facts[name] ?? '')
const asHtml = (text: string) => text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]!)

/** A moment as people of a place write it, in their own time zone. */
const moment = (time: string, { locale, timezone }: Recipient) =>
  new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'long', timeZone: timezone }).format(new Date(time))

/**
 * Makes the one live token of its kind that the account has: those before end. The caller holds the lock of the user's row, so
 * that of two mails that are written at once the later one's link is the one that works.
 */
async function onlyToken(tx: Tx, purpose: Purpose, userId: string, facts: Record<string, string>): Promise<string> {
  await endTokens(tx, userId, [purpose])
  return issueToken(tx, purpose, userId, facts)
}

const domain = sql.fragment`
  (select d.domain from tenant_domains d where d.tenant_id = t.id and d.verified_at is not null order by d.verified_at limit 1)`

/** The user of a job; null also where the links that it asks for were withdrawn since. */
const userOf = (tx: Tx, { kind, user_id, asked_at }: MailJob, statuses: readonly string[]): Promise<Recipient | null> =>
  tx.maybeOne(sql.prepared(Recipient)`
    select u.email, u.name, coalesce(u.locale, t.locale) as locale, coalesce(u.timezone, t.timezone) as timezone, t.name as tenant, t.slug,
      ${domain} as domain
    from res_users u join tenants t on t.id = u.tenant_id
    where u.tenant_id = ${tx.tenantId} and u.id = ${user_id} and u.deleted_at is null and u.status = any(${sql.array([...statuses], 'text')})
      and coalesce(${asked_at ?? null}::timestamptz >= (u.links_from ->> ${kind})::timestamptz, true)`)

const addressOf = async (tx: Tx, address: string | undefined): Promise<Recipient | null> =>
  address === undefined
    ? null
    : tx.maybeOne(sql.prepared(Recipient)`
        select ${address}::text as email, ${address}::text as name, t.locale, t.timezone, t.name as tenant, t.slug, ${domain} as domain
        from tenants t where t.id = ${tx.tenantId}`)

/**
 * Writes a mail, and makes the token that its link carries. Null where there is nobody to write to any more.
 * @param urlOf where a tenant's pages are, by its host: `https://acme.example.com`
 */
export async function composeMail(tx: Tx, job: MailJob, baseDomain: string, urlOf: (host: string) => string): Promise<Mail | null> {
  const isAlert = ALERTS.includes(job.kind)
  const link = job.user_id ? LINKS[job.kind] : undefined
  // Locked before it is read: a change of the address, or a newer request, is seen here, or finds the token and ends it.
  if (link) await tx.query(sql.run`select from res_users where tenant_id = ${tx.tenantId} and id = ${job.user_id} for no key update`)
  const recipient = job.user_id
    ? await userOf(tx, job, isAlert ? ['active'] : ['invited', 'active'])
    : isAlert
      ? await addressOf(tx, job.facts?.to)
      : null
  if (!recipient) return null
  const { facts = {} } = job
  const texts = mailTexts[LOCALES.find((locale) => locale === recipient.locale) ?? 'en']
  const text = texts[job.kind]
  const words = {
    name: recipient.name,
    tenant: recipient.tenant,
    ...facts,
    ...(facts.time ? { time: moment(facts.time, recipient) } : {}),
  }
  const paragraphs = [fill(texts.greeting, words), fill(text.body, words), ...(facts.lines?.split('\n') ?? [])]
  const closing = link ? texts.ignore : ALARMING.has(job.kind) ? texts.warning : ''
  const url = link
    ? `${urlOf(recipient.domain ?? `${recipient.slug}.${baseDomain}`)}${link.path}?token=${await onlyToken(tx, link.purpose, job.user_id!, facts)}`
    : null
  return {
    kind: job.kind,
    to: (job.kind === 'email_verification' ? facts.email : facts.to) ?? recipient.email,
    subject: fill(text.subject, words),
    text: [...paragraphs, ...(url ? [`${text.action}:\n${url}`] : []), ...(closing ? [closing] : []), recipient.tenant].join('\n\n'),
    html: [
      `<!doctype html><html lang="${recipient.locale}"><body style="font-family:sans-serif;line-height:1.5">`,
      ...paragraphs.map((p) => `<p>${asHtml(p)}</p>`),
      ...(url ? [`<p><a href="${asHtml(url)}">${asHtml(text.action ?? '')}</a></p>`] : []),
      `${closing ? `<p>${asHtml(closing)}</p>` : ''}<p>${asHtml(recipient.tenant)}</p></body></html>`,
    ].join('\n'),
  }
}
