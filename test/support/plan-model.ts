// What a plan, trials and offers allow a tenant, as the guides say it: plain lists and a clock, nothing of the product's code.

export interface ModelPlan {
  code: string
  price: number
  sort: number
  listed: boolean
  modules: readonly string[]
  limits: Readonly<Record<string, number | null>>
}
export interface ModelModule {
  code: string
  product: string
  requires: readonly string[]
}
export interface ModelOffer {
  availability: 'enabled' | 'blocked' | 'disabled'
  source: 'plan' | 'grant' | 'trial'
  /** Milliseconds; null is without end. */
  expiresAt: number | null
}
export type ModelAvailability = 'enabled' | 'read_only' | 'blocked' | 'disabled'

const runs = ({ expiresAt }: ModelOffer, at: number): boolean => expiresAt === null || expiresAt > at

/** One tenant. Every change returns the detail that it is refused with, or null, and changes nothing when it is refused. */
export class PlanModel {
  readonly modules: readonly ModelModule[]
  readonly #plans: ReadonlyMap<string, ModelPlan>
  plan: string
  subscribed: boolean
  trialEndsAt: number | null
  #products: Map<string, ModelOffer>
  #offers = new Map<string, ModelOffer>()
  /** Modules that the tenant could work with at some time: what was written with them can be read for ever. */
  #had = new Set<string>()

  constructor(modules: readonly ModelModule[], plans: readonly ModelPlan[], plan: string, trialEndsAt: number | null) {
    this.modules = modules
    this.#plans = new Map(plans.map((one) => [one.code, one]))
    this.plan = plan
    this.trialEndsAt = trialEndsAt
    this.subscribed = trialEndsAt === null
    const source = this.subscribed ? 'plan' : 'trial'
    this.#products = new Map(modules.map(({ product }) => [product, { availability: 'enabled', source, expiresAt: null }]))
    this.#remember(Date.now())
  }

  limit(metric: string): number | null {
    const limits = this.#plans.get(this.plan)!.limits
    if (limits[metric] !== undefined) return limits[metric]
    return { device_metrics: 200, metrics: 5_000, series: 50_000 }[metric] ?? null
  }

  mode(at: number): { mode: string; reason: string } {
    if (this.subscribed) return { mode: 'active', reason: 'subscription_current' }
    if (this.trialEndsAt !== null && this.trialEndsAt > at) return { mode: 'active', reason: 'trial_active' }
    return { mode: 'read_only', reason: 'trial_expired' }
  }

  availability(at: number): Map<string, ModelAvailability> {
    this.#remember(at)
    const alone = new Map(this.modules.map((module) => [module.code, this.#alone(module, at)]))
    const works = (code: string): boolean =>
      alone.get(code) === 'enabled' && this.modules.find((one) => one.code === code)!.requires.every((needed) => works(needed))
    return new Map([...alone].map(([code, is]) => [code, is === 'enabled' && !works(code) ? 'read_only' : is]))
  }

  /** The cheapest listed plan that has the module. */
  unlockedBy(module: string): string | null {
    const sold = [...this.#plans.values()].filter(({ listed, modules }) => listed && modules.includes(module))
    return sold.sort((a, b) => a.price - b.price || a.sort - b.sort || (a.code < b.code ? -1 : 1))[0]?.code ?? null
  }

  /** Moments at which something ends by the clock. */
  ends(): number[] {
    const all = [this.trialEndsAt, ...[...this.#products.values(), ...this.#offers.values()].map(({ expiresAt }) => expiresAt)]
    return all.filter((at) => at !== null)
  }

  changePlan(plan: string, at: number): null {
    this.#remember(at)
    this.plan = plan
    for (const [product, offer] of this.#products) {
      const over = offer.availability === 'enabled' && offer.expiresAt !== null && (offer.source === 'trial' || !runs(offer, at))
      if (over) this.#products.set(product, { availability: 'enabled', source: 'plan', expiresAt: null })
    }
    this.#remember(at)
    return null
  }

  convert(plan: string, at: number): 'already_exists' | null {
    if (this.subscribed) return 'already_exists'
    this.changePlan(plan, at)
    this.subscribed = true
    for (const [product, offer] of this.#products)
      if (offer.source === 'trial' && offer.expiresAt === null) this.#products.set(product, { ...offer, source: 'plan' })
    return null
  }

  extendTrial(until: number, at: number): 'invalid_value' | null {
    if (until <= at) return 'invalid_value'
    this.trialEndsAt = until
    return null
  }

  offerProduct(product: string, offer: ModelOffer, at: number): null {
    this.#remember(at)
    this.#products.set(product, offer)
    this.#remember(at)
    return null
  }

  withdrawProduct(product: string, at: number): 'not_found' | null {
    this.#remember(at)
    const { availability, source, expiresAt } = this.#products.get(product)!
    if (availability === 'enabled' && source !== 'grant' && expiresAt === null) return 'not_found'
    this.#products.set(product, { availability: 'enabled', source: this.subscribed ? 'plan' : 'trial', expiresAt: null })
    this.#remember(at)
    return null
  }

  offerModule(module: string, offer: ModelOffer, at: number): 'module_requires' | null {
    const before = this.#offers.get(module)
    const had = new Set(this.#had)
    this.#remember(at)
    this.#offers.set(module, offer)
    if (offer.availability === 'enabled' && this.availability(at).get(module) !== 'enabled') {
      this.#had = had
      if (before) this.#offers.set(module, before)
      else this.#offers.delete(module)
      return 'module_requires'
    }
    this.#remember(at)
    return null
  }

  withdrawModule(module: string, at: number): 'not_found' | null {
    this.#remember(at)
    return this.#offers.delete(module) ? null : 'not_found'
  }

  /** What the plan gives: nothing while staff took the product away or its trial has ended. */
  #productRuns(product: string, at: number): boolean {
    const offer = this.#products.get(product)!
    return offer.availability === 'enabled' ? runs(offer, at) : !runs(offer, at)
  }

  #inPlan(module: string): boolean {
    return this.#plans.get(this.plan)!.modules.includes(module)
  }

  #alone({ code, product }: ModelModule, at: number): ModelAvailability {
    const whole = this.#products.get(product)!
    const own = this.#offers.get(code)
    const live = own && runs(own, at) ? own : null
    if ((whole.availability === 'disabled' && runs(whole, at)) || live?.availability === 'disabled') return 'disabled'
    const given = this.#productRuns(product, at) && (live ? live.availability === 'enabled' : this.#inPlan(code))
    return given ? 'enabled' : this.#had.has(code) ? 'read_only' : 'blocked'
  }

  #remember(at: number): void {
    for (const { code, product } of this.modules) {
      const own = this.#offers.get(code)
      const given = this.#inPlan(code) || (own?.availability === 'enabled' && runs(own, at))
      if (given && this.#productRuns(product, at)) this.#had.add(code)
    }
  }
}
