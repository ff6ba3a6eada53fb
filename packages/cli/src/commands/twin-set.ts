import { defineCommand, outputForm, outputOption, usage } from '../command.ts'
import { deviceOperand, openPlace, placeOptions } from '../device-options.ts'
import type { DesiredText } from '../device-place.ts'
import { renderTwin } from '../twin-view.ts'

/** `none`, or `<time>.<counter>.<writer>/<start>`. */
const versionPattern = /^(?:none|\d{1,16}\.\d{1,16}\.[a-z0-9][a-z0-9.-]*\/[0-9a-f]{8})$/

export const twinSet = defineCommand({
  name: 'twin set',
  summary: 'set what a device should be',
  details: 'PROPERTY=VALUE desires a value: text where the model says so, else JSON where it is JSON, else text. PROPERTY=\n' +
    'desires empty text, PROPERTY- nothing any more. Several are set together or not at all. With --if-version nothing is\n' +
    'set unless each of them is at that version (`none`: nothing is desired of it), as `holdfast twin get` shows it.',
  operands: { shown: 'DEVICE PROPERTY=VALUE…', min: 2, max: 257 },
  options: {
    'if-version': { value: 'VERSION', summary: 'Only where the desired value is at this version.' },
    ...placeOptions,
    ...outputOption
  },
  async run(values, host, [operand = '', ...assignments]) {
    const form = outputForm(values.output)
    const device = deviceOperand(operand)
    const ifVersion = values['if-version']
    if (ifVersion !== undefined && !versionPattern.test(ifVersion)) {
      throw usage(`--if-version "${ifVersion}": expected none, or a version as holdfast twin get shows it`)
    }
    const desired = assignments.map(assignment)
    const twice = desired.find(({ property }, i) => desired.findIndex(other => other.property === property) !== i)
    if (twice !== undefined) throw usage(`"${twice.property}" is given twice`)
    const view = await (await openPlace(values, host)).set(device, desired, ifVersion, host.shutdown)
    await host.write(form === 'json' ? JSON.stringify(view, null, 2) + '\n'
      : renderTwin(view, timestamp => host.ageMs(timestamp)))
    return 0
  }
})

/** Throws `USAGE`. */
function assignment(text: string): DesiredText {
  const at = text.indexOf('=')
  if (at > 0) return { property: text.slice(0, at), text: text.slice(at + 1) }
  if (at === -1 && text.length > 1 && text.endsWith('-')) return { property: text.slice(0, -1), text: undefined }
  throw usage(`"${text}": expected PROPERTY=VALUE, or PROPERTY- to desire nothing of it any more`)
}
