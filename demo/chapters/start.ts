import { formatCount } from '../../packages/cli/src/render.ts'
import type { Chapter } from '../chapter.ts'
import { publisherPlan } from '../stage.ts'

export const start: Chapter = {
  title: 'A cloud, a node, devices',
  proves: 'Each is a process with real sockets: cloudcore, edgecore, publishers over MQTT, a reader over HTTP.',
  async run(stage) {
    stage.step('cloudcore starts')
    await stage.startCloud()
    stage.step('the node joins and starts')
    await stage.startNode()
    stage.step('objects are put into the Kubernetes API')
    await stage.placeObjects()
    stage.step('a thermostat and this machine become Devices')
    await stage.placeDevices()
    stage.startReader()
    stage.step('publishers connect')
    await stage.startPublishers()
    stage.display.say('this machine\'s CPU, memory, load, disk and network publish ten times a second each,')
    const bulk = publisherPlan.flatMap(plan => plan.name === 'machine' ? []
      : [`${plan.connections} devices ${formatCount(plan.ratePerSecond)} records a second at QoS ${plan.qos}`])
    stage.display.say(`${bulk.join(', and ')}.`)
    stage.display.say('the cluster wants a Pod there, with ConfigMap speed-limit (50) and Secret door-code: the node serves them.')
    stage.display.say('a thermostat, a process that speaks MQTT, and this machine are Devices in the cluster, and twins on the node.')
  }
}
