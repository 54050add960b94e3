process TINYNOVO_SEQUENCE {
    tag "$meta.id"
    label 'process_medium'

    container "tinynovo:0.1.0"

    input:
    tuple val(meta), path(spectra)

    output:
    tuple val(meta), path("*.mztab"), emit: mztab
    tuple val(meta), path("*.html") , emit: report, optional: true
    path "versions.yml"             , emit: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    tinynovo sequence ${spectra} -o ${prefix}.mztab --threads ${task.cpus} ${args}

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        tinynovo: \$(tinynovo version | sed -n 's/^tinynovo //p')
    END_VERSIONS
    """

    stub:
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    touch ${prefix}.mztab

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        tinynovo: \$(tinynovo version | sed -n 's/^tinynovo //p')
    END_VERSIONS
    """
}
