// Where mails go: to an SMTP server, or, in development, into a folder.
import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { createTransport } from 'nodemailer'
import { composeMail, type Mail, type MailJob } from '../domain/identity/index.ts'
import { type Database, systemScope } from '../domain/kernel/index.ts'
import type { WorkerLog } from './log.ts'

export type Send = (mail: Mail) => Promise<void>

export interface MailOptions {
  smtpUrl: string | undefined
  /** Where mails are written when there is no server. */
  directory: string | undefined
  from: string
  /** `https://{host}`: where a tenant's pages are. */
  publicUrl: string
  baseDomain: string
}

/** Sends over a pooled SMTP connection with timeouts of ten seconds; throws what the server said. */
function overSmtp(url: string, from: string): Send {
  const transport = createTransport({
    url,
    pool: true,
    maxConnections: 2,
    connectionTimeout: 10_000,
    greetingTimeout: 10_000,
    socketTimeout: 10_000,
  } as object)
  return async ({ to, subject, text, html }) => {
    await transport.sendMail({ from, to, subject, text, html })
  }
}

/** Writes each mail's text into a file of its own and names it in the log. */
function intoFolder(directory: string, log: WorkerLog): Send {
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  return async ({ kind, to, subject, text }) => {
    const file = path.join(directory, `${new Date().toISOString().replaceAll(':', '-')}-${kind}-${to.replace(/[^a-z0-9@.-]/gi, '_')}.txt`)
    writeFileSync(file, `To: ${to}\nSubject: ${subject}\n\n${text}\n`, { mode: 0o600 })
    log.warn({ file, kind }, 'no SMTP_URL: mail is written, not sent')
  }
}

/** Composes and sends one mail. Throws when the server does not take it: the job is tried again, with a new link. */
export function mailer(control: Database, { smtpUrl, directory, from, publicUrl, baseDomain }: MailOptions, log: WorkerLog) {
  const send = smtpUrl ? overSmtp(smtpUrl, from) : intoFolder(directory ?? 'mail', log)
  return async (job: MailJob): Promise<void> => {
    const mail = await control.write(systemScope(job.tenant_id, 'mail', ''), (tx) =>
      composeMail(tx, job, baseDomain, (host) => publicUrl.replace('{host}', host)),
    )
    if (mail) await send(mail)
  }
}
