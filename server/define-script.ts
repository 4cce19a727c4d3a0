// What a governed script is: a name, a sentence, and work that the runner calls. The module itself does nothing.

import type { Queries } from '../domain/kernel/index.ts'
import type { Vault } from '../domain/tenancy/index.ts'
import type { Config } from './config.ts'

export interface ScriptContext {
  config: Config
  vault: Vault
  /** Declared flags that were given: `--emergency`. */
  flags: ReadonlySet<string>
  /** The slug of `--tenant=`, which exists; null for all tenants. */
  tenant: string | null
  /** The control plane in one transaction, as its owner; rolled back after a dry run. */
  queries: Queries
  now: Date
  /** Shows how far it is. */
  progress(done: number, total: number): void
  /** Says something to whoever runs it. */
  say(text: string): void
}

export interface Script {
  name: string
  description: string
  /** Flags that it takes beside those of the runner; any other is refused. Without it, the script takes none. */
  flags?: readonly string[]
  /** Returns how many rows it changed. */
  run(context: ScriptContext): Promise<number>
}

export const defineScript = (script: Script): Script => script
