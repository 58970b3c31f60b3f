"""Speed, beside peers, in one run.

===============  ===============================================================
module           holds
===============  ===============================================================
``bench``        ``bench``, which runs all tasks
``corpus``       the codes that are searched and the queries that are asked
``conditions``   what every task is run with
``timing``       what one engine took for one task
``engines``      binq and its peers, ready to answer, each with its check
``by_numpy``     the plainest searches: an engine, and the truth of every check
``race``         engines timed in turns
``processes``    whole processes that answer one query
``builds``       builds, beside reading the same file
``efforts``      searches at equal recall, of engines that look farther with more effort
``ivf``          inverted lists: such searches, and builds
``hnsw``         graphs: such searches, and builds
``environment``  the peers that are installed, their versions, the machine
===============  ===============================================================

Engines take turns round by round, so that a machine whose speed drifts slows all of them alike.
Every engine is checked in the same run that times it, and an engine that answers wrongly is
reported as such. A slow engine is given fewer queries: what is compared is the time per query.
"""
