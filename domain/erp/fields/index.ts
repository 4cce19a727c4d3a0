export { CUSTOMIZABLE, customFields, describeCustom } from './custom-field.ts'
