import { defineCommand, outputForm, outputOption } from '../command.ts'
import { deviceOperand, openPlace, placeOptions } from '../device-options.ts'
import { renderTwin } from '../twin-view.ts'

export const twinGet = defineCommand({
  name: 'twin get',
  summary: 'show what a device should be and what it says that it is',
  details: 'DEVICE is NAMESPACE/NAME, or NAME in the namespace default. Versions tell who wrote a value and when:\n' +
    'TIME.COUNTER.WRITER/START.',
  operands: { shown: 'DEVICE', min: 1, max: 1 },
  options: { ...placeOptions, ...outputOption },
  async run(values, host, [operand = '']) {
    const form = outputForm(values.output)
    const device = deviceOperand(operand)
    const view = await (await openPlace(values, host)).get(device, host.shutdown)
    await host.write(form === 'json' ? JSON.stringify(view, null, 2) + '\n'
      : renderTwin(view, timestamp => host.ageMs(timestamp)))
    return 0
  }
})
