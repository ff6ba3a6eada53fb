import { defineCommand, nodeOption, outputForm, outputOption, usage } from '../command.ts'
import { openPlace, placeOptions } from '../device-options.ts'
import { renderDevices } from '../twin-view.ts'

export const getDevices = defineCommand({
  name: 'get devices',
  summary: 'list devices: of the cloud, or with --edge of the node',
  details: 'SYNCED: the node has every desired value. IN DESIRED STATE: the device reports them. Where not, the reason\n' +
    'stands there.',
  options: {
    namespace: { value: 'NAMESPACE', short: 'n', summary: 'Of this namespace only.' },
    node: { value: 'NODE', summary: 'Of this node only.' },
    ...placeOptions,
    ...outputOption
  },
  async run(values, host) {
    const form = outputForm(values.output)
    const node = nodeOption(values.node)
    if (node !== undefined && values.edge !== undefined) throw usage('--node is for the cloud: a node has its own devices alone')
    const place = await openPlace(values, host)
    const rows = await place.list({
      ...values.namespace !== undefined && { namespace: values.namespace }, ...node !== undefined && { node }
    }, host.shutdown)
    await host.write(form === 'json' ? JSON.stringify(rows, null, 2) + '\n'
      : renderDevices(rows, place.kind, timestamp => host.ageMs(timestamp)))
    return 0
  }
})
