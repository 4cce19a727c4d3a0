export { MENU_TTL_SECONDS, MenuCatalogue, type MenuNode } from './menu.ts'
