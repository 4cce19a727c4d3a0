export * from './activity.ts'
export { Catalogue } from './catalogue.ts'
export { type ConsumerProgress, consumerCounts, forgetConsumers, reportConsumers } from './consumer-progress.ts'
export { flagsFor, hasFlag, removeFlag, setFlag } from './flags.ts'
export { changeMenu, MENU_TTL_SECONDS, menuFor } from './menu.ts'
export {
  announcementList,
  createNotice,
  maintenanceList,
  matchesNotice,
  noticeById,
  removeNotice,
  updateNotice,
} from './notices.ts'
export { assignPlan, Offer, offerModule, offerProduct, TenantSheet, tenantSheet, withdrawModule, withdrawProduct } from './offers.ts'
export { NewPlan, Plan, plan, plans, putPlan, removePlan } from './plans.ts'
export { changeModule, ModuleRecord, modules, RegisteredModule, registryOf } from './registry.ts'
export { convert, remindOfTrials } from './trials.ts'
export { ApiCalls, Usage, usageOf } from './usage.ts'
