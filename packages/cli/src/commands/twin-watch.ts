import { defineCommand, outputForm, outputOption } from '../command.ts'
import { deviceOperand, openPlace, placeOptions } from '../device-options.ts'
import { renderTwin, twinChanges, type TwinView } from '../twin-view.ts'

export const twinWatch = defineCommand({
  name: 'twin watch',
  summary: 'show a twin, and each change of it as it comes, until Ctrl-C',
  details: 'As JSON every line is the whole twin.',
  operands: { shown: 'DEVICE', min: 1, max: 1 },
  options: { ...placeOptions, ...outputOption },
  async run(values, host, [operand = '']) {
    const form = outputForm(values.output)
    const device = deviceOperand(operand)
    const place = await openPlace(values, host)
    let before: TwinView | undefined
    try {
      for await (const view of place.watch(device, host.shutdown)) {
        const text = form === 'json' ? JSON.stringify(view) + '\n'
          : before === undefined ? `${renderTwin(view, timestamp => host.ageMs(timestamp))}\n`
            : twinChanges(before, view).map(line => `${line}\n`).join('')
        if (before !== undefined && form === 'json' && JSON.stringify(before) === JSON.stringify(view)) continue
        before = view
        if (text !== '') await host.write(text)
      }
    } catch (error) {
      if (host.shutdown.aborted) return 0
      throw error
    }
    if (!host.shutdown.aborted) host.say(`${device} was deleted`)
    return 0
  }
})
