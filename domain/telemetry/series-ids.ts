// Ids of series in memory, by tenant: one tenant's devices cannot push another tenant's series out.

/** Series of one tenant, and of all, that are remembered; beyond it a tenant's are read again. */
const MAX_OF_TENANT = 200_000
const MAX_OF_ALL = 500_000

/** The series ids of one tenant, by device and metric. */
class TenantSeries {
  readonly #devices = new Map<string, Map<string, number>>()
  size = 0

  get(device: string, metric: string): number | undefined {
    return this.#devices.get(device)?.get(metric)
  }

  set(device: string, metric: string, id: number): void {
    const metrics = this.#devices.get(device) ?? new Map<string, number>()
    if (!metrics.has(metric)) this.size++
    this.#devices.set(device, metrics.set(metric, id))
  }
}

/**
 * A cache of series ids, which never change. It is bounded for each tenant and for all: a tenant beyond its bound loses its
 * own entries, and where all together are too many, the tenant with the most entries loses them. Lost entries are read again.
 */
export class SeriesIds {
  readonly #tenants = new Map<string, TenantSeries>()
  readonly #maxOfTenant: number
  readonly #maxOfAll: number
  #size = 0

  constructor(maxOfTenant = MAX_OF_TENANT, maxOfAll = MAX_OF_ALL) {
    this.#maxOfTenant = maxOfTenant
    this.#maxOfAll = maxOfAll
  }

  get(tenant: string, device: string, metric: string): number | undefined {
    return this.#tenants.get(tenant)?.get(device, metric)
  }

  set(tenant: string, device: string, metric: string, id: number): void {
    const own = this.#tenants.get(tenant) ?? new TenantSeries()
    this.#tenants.set(tenant, own)
    const before = own.size
    own.set(device, metric, id)
    this.#size += own.size - before
    if (own.size > this.#maxOfTenant) this.#forget(tenant, own)
    else if (this.#size > this.#maxOfAll) this.#forget(...this.#largest())
  }

  #largest(): [string, TenantSeries] {
    return [...this.#tenants].reduce((largest, one) => (one[1].size > largest[1].size ? one : largest))
  }

  #forget(tenant: string, own: TenantSeries): void {
    this.#tenants.delete(tenant)
    this.#size -= own.size
  }
}
