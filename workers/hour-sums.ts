// The hourly summing up of readings: every tenant for itself, and what fails is told.
import { Gauge, type Registry } from 'prom-client'
import { sumUpHours } from '../domain/telemetry/index.ts'
import { databaseOf, type Planes, type Tenant } from '../domain/tenancy/index.ts'
import type { WorkerLog } from './log.ts'

/**
 * Sums up the hours of every tenant that has devices, one after the other. A series or a tenant that fails stops no other:
 * its hours are read as they are, and tried again an hour later. `telemetry_hours_failed` counts them by kind.
 */
export function hourSums(planes: Planes, registry: Registry, log: WorkerLog): (tenants: readonly Tenant[]) => Promise<void> {
  const failed = new Gauge({
    name: 'telemetry_hours_failed',
    help: 'Series, and whole tenants, of which hours could not be summed up in the last run',
    labelNames: ['kind'],
    registers: [registry],
  })
  return async (tenants) => {
    const counts = { series: 0, tenant: 0 }
    for (const tenant of tenants.filter(({ modules }) => modules['telemetry.devices'] === 'enabled')) {
      try {
        const failures = await sumUpHours(databaseOf(planes, 'telemetry', tenant), tenant.id)
        counts.series += failures.length
        if (failures.length > 0)
          log.warn(
            { tenant_id: tenant.id, failures: failures.slice(0, 20) },
            'hours of some series not summed up, it is tried again in an hour',
          )
      } catch (error) {
        counts.tenant++
        log.warn({ err: error, tenant_id: tenant.id }, 'hours not summed up, it is tried again in an hour')
      }
    }
    for (const kind of ['series', 'tenant'] as const) failed.set({ kind }, counts[kind])
  }
}
