export { MENU_TTL_SECONDS, MenuCatalogue, type MenuNode } from './menu.ts'
export { ModuleRegistry, RegisteredModule } from './registry.ts'
