import { textOf } from '@holdfast/device-twin'
import type { Json } from '@holdfast/device-twin'
import { mapperLimits as limits } from './limits.ts'
import { someText } from './settings.ts'

/** The setting of a template: text with `{{value}}` (the value as text) or `{{json}}` (as JSON) in it. */
export function templateSetting() {
  return someText('text, with {{value}} for the value as text and {{json}} for it as JSON', limits.templateLength.value,
    text => [...text.matchAll(/\{\{(.*?)\}\}/g)].every(([, name]) => name === 'value' || name === 'json'))
}

export function fillTemplate(template: string, value: Json): string {
  return template.replaceAll(/\{\{(value|json)\}\}/g, (_, name) => name === 'value' ? textOf(value) : JSON.stringify(value))
}
