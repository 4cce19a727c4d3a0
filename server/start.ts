// What the entry points share: configuration or one clear sentence, and the safety checks before serving.
import { type Config, ConfigError, readConfig } from './config.ts'
import type { MigrationTarget } from './migrations.ts'

/** The configuration of this process, or an exit that says what to set. */
export function configOrExit(): Config {
  try {
    return readConfig(process.env)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    process.stderr.write(
      `The configuration is not usable (docs/configuration.md explains each name):\n${error.message.replace(/^/gm, '  ')}\n`,
    )
    process.exit(1)
  }
}

/** Every database that the configuration names. */
export function targetsOf(config: Pick<Config, 'CONTROL_DATABASE_URL' | 'DATA_CATALOG' | 'TELEMETRY_CATALOG'>): MigrationTarget[] {
  return [
    { name: 'control', plane: 'control', url: config.CONTROL_DATABASE_URL },
    ...Object.entries(config.DATA_CATALOG).map(([key, url]) => ({ name: `data:${key}`, plane: 'data' as const, url })),
    ...Object.entries(config.TELEMETRY_CATALOG).map(([key, url]) => ({ name: `telemetry:${key}`, plane: 'telemetry' as const, url })),
  ]
}

/** Ends the process with one line for each reason. */
export function refuseToStart(problems: readonly string[]): never {
  process.stderr.write(`Refusing to start:\n${problems.map((p) => `  ${p}`).join('\n')}\n`)
  process.exit(1)
}

/** "Port 3000 is taken" instead of a stack. */
export function explainListenError(error: NodeJS.ErrnoException, port: number, variable: string): never {
  const sentence =
    error.code === 'EADDRINUSE'
      ? `Port ${port} is taken: stop what listens there, or set ${variable} to another port.`
      : `Cannot listen on port ${port}: ${error.message}`
  process.stderr.write(`${sentence}\n`)
  process.exit(1)
}
