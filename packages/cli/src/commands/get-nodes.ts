import { askCloudJson, cloudOption, cloudUrl } from '../cloud-client.ts'
import { defineCommand, outputForm, outputOption } from '../command.ts'
import { renderNodes, type NodeStatus } from '../render.ts'

export const getNodes = defineCommand({
  name: 'get nodes',
  summary: 'list the nodes, whether they are connected, and what the cloud log holds of them',
  options: { ...cloudOption, ...outputOption },
  async run(values, host) {
    const form = outputForm(values.output)
    const cloud = cloudUrl(values.cloud, host.environment)
    const nodes = await askCloudJson(cloud, { path: '/v1/nodes' }, host.shutdown)
    if (form === 'json') await host.write(JSON.stringify(nodes, null, 2) + '\n')
    else await host.write(renderNodes(nodes as NodeStatus[], timestamp => host.ageMs(timestamp)))
    return 0
  }
})
